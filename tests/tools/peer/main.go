// The peer of the benchmarks: a controller that moves a leader's label, as one would write it with controller-runtime.
//
// The bare algorithm and nothing else: among the pods of one application the label is on a ready one; the old label is taken
// off before the new one is put on. No Lease, no term, no fence, no status, no event; what can go wrong then is not its business.
// It is written for speed as far as the library offers it: a cache of the chosen pods alone, without managed fields, with an
// index; predicates that let nothing through that does not matter; no limit of the client's own; merge patches.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sort"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const (
	key   = "role"
	value = "leader"
)

type mover struct {
	client.Client
	application string
}

func main() {
	kubeconfig := flag.String("config", "", "the kubeconfig")
	selector := flag.String("selector", "moved-by=peer", "which pods it looks at")
	application := flag.String("application", "app", "the label whose value says which application a pod is of")
	flag.Parse()
	if err := run(*kubeconfig, *selector, *application); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(kubeconfig, selector, application string) error {
	ctrl.SetLogger(klog.Background())
	chosen, err := labels.Parse(selector)
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return err
	}
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:  scheme,
		Metrics: server.Options{BindAddress: "0"},
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject:         map[client.Object]cache.ByObject{&corev1.Pod{}: {Label: chosen}},
		},
	})
	if err != nil {
		return err
	}
	ctx := ctrl.SetupSignalHandler()
	byApplication := func(object client.Object) []string { return []string{object.GetLabels()[application]} }
	if err := manager.GetFieldIndexer().IndexField(ctx, &corev1.Pod{}, application, byApplication); err != nil {
		return err
	}
	toApplication := func(_ context.Context, object client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetLabels()[application]}}}
	}
	err = ctrl.NewControllerManagedBy(manager).
		Named("peer").
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(toApplication), whatMatters()).
		WithOptions(controller.Options{MaxConcurrentReconciles: 32}).
		Complete(&mover{manager.GetClient(), application})
	if err != nil {
		return err
	}
	go func() {
		if manager.GetCache().WaitForCacheSync(ctx) {
			fmt.Println("Everything is listed")
		}
	}()
	return manager.Start(ctx)
}

// Reconcile moves the label of one application, if its leader may not keep it.
func (m *mover) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	var pods corev1.PodList
	if err := m.List(ctx, &pods, client.InNamespace(request.Namespace), client.MatchingFields{m.application: request.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return reconcile.Result{}, err
	}
	var leader, next *corev1.Pod
	var former []*corev1.Pod
	for i := range pods.Items {
		pod := &pods.Items[i]
		switch fit := isFit(pod); {
		case isLeader(pod) && fit && leader == nil:
			leader = pod
		case isLeader(pod):
			former = append(former, pod)
		case fit && (next == nil || isBefore(pod, next)):
			next = pod
		}
	}
	sort.Slice(former, func(i, j int) bool { return former[i].Name < former[j].Name })
	for _, pod := range former {
		if err := m.label(ctx, pod, "null"); err != nil {
			return reconcile.Result{}, err
		}
	}
	if leader == nil && next != nil {
		return reconcile.Result{}, m.label(ctx, next, `"`+value+`"`)
	}
	return reconcile.Result{}, nil
}

func (m *mover) label(ctx context.Context, pod *corev1.Pod, to string) error {
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, key, to)
	return client.IgnoreNotFound(m.Patch(ctx, &corev1.Pod{ObjectMeta: pod.ObjectMeta}, client.RawPatch(types.MergePatchType, []byte(patch))))
}

func isLeader(pod *corev1.Pod) bool { return pod.Labels[key] == value }

func isFit(pod *corev1.Pod) bool {
	if pod.DeletionTimestamp != nil {
		return false
	}
	for i := range pod.Status.Conditions {
		if condition := &pod.Status.Conditions[i]; condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

func isBefore(pod, other *corev1.Pod) bool {
	if pod.CreationTimestamp.Equal(&other.CreationTimestamp) {
		return pod.Name < other.Name
	}
	return pod.CreationTimestamp.Before(&other.CreationTimestamp)
}
