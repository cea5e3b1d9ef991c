package plane

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

//go:embed stages.yaml
var stages []byte

const (
	// As of a kubelet: it renews its lease four times in this time.
	nodeLeaseSeconds = 40
	nodesPatience    = 5 * time.Minute
)

// startNodes starts kwok, which plays the kubelets of all nodes, and makes the nodes.
func (p *Plane) startNodes(ctx context.Context) error {
	kubeconfig, _, err := p.kubeconfig("kwok", p.server(2).Config.Host, p.admin)
	if err != nil {
		return err
	}
	behaviour := filepath.Join(p.config.Home, "stages.yaml")
	if err := os.WriteFile(behaviour, stages, 0o644); err != nil {
		return err
	}
	err = p.serve("kwok", "--kubeconfig="+kubeconfig, "--config="+behaviour, "--manage-all-nodes=true",
		fmt.Sprintf("--node-lease-duration-seconds=%d", nodeLeaseSeconds))
	if err != nil {
		return err
	}
	client, err := p.Clientset(0)
	if err != nil {
		return err
	}
	for i := range p.config.Nodes {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node-%04d", i+1)}}
		_, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	return until(ctx, nodesPatience, func() error {
		nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		ready := 0
		for _, node := range nodes.Items {
			if IsReady(node) {
				ready++
			}
		}
		if ready < p.config.Nodes {
			return fmt.Errorf("%d of %d nodes are ready", ready, p.config.Nodes)
		}
		return nil
	})
}

// IsReady tells whether a node says so.
func IsReady(node corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}
