// A program of client-go's leader election that says when it leads, for tests that put other electors beside it.
//
// It does what the package's example does, and nothing cleverer: its faults are to be client-go's. One source serves two
// versions: go.mod names the newest, old.mod the last that has all five locks.
//
// On standard output it prints one JSON object per line, with "ns" of CLOCK_MONOTONIC, which all processes of a host share;
// client-go's log goes to standard error.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// While it leads, it says so this often.
const tick = 20 * time.Millisecond

type line struct {
	NS    int64  `json:"ns"`
	Event string `json:"event"`
	// Only of the event "leader", where it may be empty: nobody leads.
	Leader *string `json:"leader,omitempty"`
}

var output sync.Mutex

// One write per line and no buffer, so that a killed process has said all that it did.
func say(event string, leader *string) {
	output.Lock()
	defer output.Unlock()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		klog.Fatalf("no clock: %v", err)
	}
	text, err := json.Marshal(line{NS: now.Nano(), Event: event, Leader: leader})
	if err != nil {
		klog.Fatalf("%s cannot be said: %v", event, err)
	}
	if _, err := os.Stdout.Write(append(text, '\n')); err != nil {
		klog.Fatalf("%s cannot be said: %v", event, err)
	}
}

// What the application would do while it leads.
func act(ctx context.Context) {
	say("started", nil)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for ctx.Err() == nil {
		say("acting", nil)
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

type settings struct {
	kubeconfig, id, namespace, name, lock     string
	leaseDuration, renewDeadline, retryPeriod time.Duration
	releaseOnCancel, again                    bool
}

func parse() settings {
	var s settings
	flag.StringVar(&s.kubeconfig, "kubeconfig", "", "how to reach the API server")
	flag.StringVar(&s.id, "id", "", "the candidate's identity")
	flag.StringVar(&s.namespace, "namespace", "default", "where the lock is")
	flag.StringVar(&s.name, "name", "", "the lock's name")
	flag.StringVar(&s.lock, "lock", "leases", "leases; the old program: endpoints, configmaps, endpointsleases, configmapsleases too")
	flag.DurationVar(&s.leaseDuration, "lease-duration", 15*time.Second, "how long others wait for a silent leader")
	flag.DurationVar(&s.renewDeadline, "renew-deadline", 10*time.Second, "how long a leader tries to renew before it gives up")
	flag.DurationVar(&s.retryPeriod, "retry-period", 2*time.Second, "between two tries")
	flag.BoolVar(&s.releaseOnCancel, "release-on-cancel", true, "give the lock away on SIGTERM and SIGINT")
	flag.BoolVar(&s.again, "again", false, "be a candidate again after a loss")
	flag.Parse()
	return s
}

func (s settings) run(ctx context.Context, config *rest.Config) {
	lock, err := resourcelock.NewFromKubeconfig(s.lock, s.namespace, s.name, resourcelock.ResourceLockConfig{Identity: s.id}, config, s.renewDeadline)
	if err != nil {
		klog.Fatalf("no lock: %v", err)
	}
	leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
		Lock:            lock,
		LeaseDuration:   s.leaseDuration,
		RenewDeadline:   s.renewDeadline,
		RetryPeriod:     s.retryPeriod,
		ReleaseOnCancel: s.releaseOnCancel,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: act,
			OnStoppedLeading: func() { say("stopped", nil) },
			OnNewLeader:      func(identity string) { say("leader", &identity) },
		},
	})
}

func main() {
	s := parse()
	config, err := clientcmd.BuildConfigFromFlags("", s.kubeconfig)
	if err != nil {
		klog.Fatalf("no cluster: %v", err)
	}
	// The default of 5 a second would hold up the old double locks, which ask five times per renewal, at short periods.
	config.QPS, config.Burst = 50, 100
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	s.run(ctx, config)
	for s.again && ctx.Err() == nil {
		s.run(ctx, config)
	}
	say("exit", nil)
}
