package main

import (
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

// Only what can make another lead: a pod that comes or goes, and one whose fitness or label has changed.
func whatMatters() builder.Predicates {
	return builder.WithPredicates(predicate.Funcs{
		UpdateFunc: func(update event.UpdateEvent) bool {
			before, now := update.ObjectOld.(*corev1.Pod), update.ObjectNew.(*corev1.Pod)
			return isFit(before) != isFit(now) || isLeader(before) != isLeader(now)
		},
	})
}
