// Command scenario has a Kubernetes control plane do what one does in its life, first in calm and then
// while members of the cluster below it are killed, paused, cut off, compacted and replaced, on each of
// the servers named, and prints what it saw of them side by side. It fails when anything that was
// acknowledged is lost, a watch goes silent, or a request can't be made to succeed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"orrery.invalid/kubernetes/plane"
)

// sizes is how much of everything there is.
type sizes struct {
	nodes, pods, namespaces, objects, customs, writers int
	hold, settle, lasting                              time.Duration
	faults                                             bool
}

func main() {
	var size sizes
	flag.IntVar(&size.nodes, "nodes", 100, "fake nodes")
	flag.IntVar(&size.pods, "pods", 500, "replicas of the deployment")
	flag.IntVar(&size.namespaces, "namespaces", 20, "namespaces that come and go")
	flag.IntVar(&size.objects, "objects", 200, "objects of each built-in kind")
	flag.IntVar(&size.customs, "customs", 10_000, "custom resources")
	flag.IntVar(&size.writers, "writers", 6, "clients that write all the time")
	flag.DurationVar(&size.hold, "hold", 12*time.Second, "how long a fault lasts")
	flag.DurationVar(&size.settle, "settle", 8*time.Second, "time between two faults")
	// So that each API server compares its caches with the storage, five to seven minutes after its start.
	flag.DurationVar(&size.lasting, "lasting", 8*time.Minute, "how long the faults go on at least")
	flag.BoolVar(&size.faults, "faults", true, "do it again under faults")
	binaries := flag.String("binaries", "", "`directory` of Kubernetes' programs")
	named := flag.String("home", "", "`directory` that keeps data and logs; none by default")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: scenario -binaries DIR [flags] NAME=SERVER...")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, end := signal.NotifyContext(context.Background(),
		syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer end()

	table, violated := &table{}, false
	for _, target := range flag.Args() {
		name, server, _ := strings.Cut(target, "=")
		violations, err := runOn(ctx, name, server, *binaries, *named, size, table)
		for _, violation := range violations {
			fmt.Printf("%s: VIOLATED: %s\n", name, violation)
		}
		if err != nil {
			fmt.Printf("%s: %v\n", name, err)
		}
		violated = violated || err != nil || len(violations) > 0
	}
	fmt.Print("\n", table)
	if violated || flag.NArg() == 0 {
		os.Exit(1)
	}
}

// runOn does all of it on one server, whose column of the table it fills.
func runOn(
	ctx context.Context, name, server, binaries, named string, size sizes, table *table,
) ([]string, error) {
	if named != "" {
		named = filepath.Join(named, name)
	}
	home, remove, err := plane.MakeHome(named)
	if err != nil {
		return nil, err
	}
	defer remove()
	fmt.Printf("\n%s: three members, three API servers, %d nodes; %s\n", name, size.nodes, home)
	begun := time.Now()
	members, err := plane.StartMembers(ctx, server, home, 3)
	if err != nil {
		return nil, err
	}
	defer members.Stop()
	started, err := plane.Start(ctx, plane.Config{
		Binaries: binaries, Home: home, Storage: members.Storage(), APIServers: 3, Nodes: size.nodes,
		EventTTL: eventTTL, CompactionInterval: compactionInterval,
	})
	if err != nil {
		return nil, err
	}
	defer started.Stop()
	r, err := newRun(name, started, members, size, table)
	if err != nil {
		return nil, err
	}
	defer r.etcd.Close()
	r.row(startRow, seconds(time.Since(begun)))
	err = r.all(ctx)
	return r.violations, err
}
