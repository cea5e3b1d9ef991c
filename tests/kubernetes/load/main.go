// Command load measures what a Kubernetes control plane asks of its etcd, of our server and of an etcd in
// turns: the requests of kube-apiserver in their exact shapes without one, or real ones through it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const usage = `usage: load [FLAGS] MODE [FLAGS OF THE MODE]

modes:
  requests       what nodes, pods and API servers ask, on a schedule of its own (open loop)
  connections    memory and processor time of a member that holds watches and idle connections
  list-and-watch how late a watch is while its connection carries big lists
  through        a real control plane, whose nodes renew leases while pods come and go

flags:
`

// What all modes share.
type setup struct {
	ours, etcd, file string
	members, rounds  int
	plain            bool

	servers []server
	results *results
}

// A mode takes its own flags and gives what then runs.
var modes = map[string]func(*flag.FlagSet) func(context.Context, *setup) error{
	"requests":       requestsMode,
	"connections":    connectionsMode,
	"list-and-watch": listAndWatchMode,
	"through":        throughMode,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	s := setup{
		ours: os.Getenv("ORRERY_BIN"), etcd: os.Getenv("ETCD"), members: 3, rounds: 1,
	}
	s.take(flags)
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	mode, known := modes[flags.Arg(0)]
	if !known {
		flags.Usage()
		return fmt.Errorf("no such mode: %q", flags.Arg(0))
	}
	own := flag.NewFlagSet("load "+flags.Arg(0), flag.ContinueOnError)
	s.take(own)
	measure := mode(own)
	if err := own.Parse(flags.Args()[1:]); err != nil {
		return err
	}
	if err := s.find(); err != nil {
		return err
	}
	var err error
	if s.results, err = openResults(s.file); err != nil {
		return err
	}
	defer s.results.close()
	turn, err := exclusive(ctx)
	if err != nil {
		return err
	}
	defer turn.Close()
	return measure(ctx, &s)
}

// take has flags say what is set up, with what was said so far where they don't: they may come before
// the mode and behind it.
func (s *setup) take(flags *flag.FlagSet) {
	flags.StringVar(&s.ours, "server", s.ours, "the server under test")
	flags.StringVar(&s.etcd, "etcd", s.etcd, "the etcd to compare with; none: only the server")
	flags.IntVar(&s.members, "members", s.members, "members of each cluster")
	flags.BoolVar(&s.plain, "plain", s.plain, "no TLS, between clients and members and between members")
	flags.IntVar(&s.rounds, "rounds", s.rounds, "how often all is repeated; the table has medians")
	flags.StringVar(&s.file, "results", s.file, "file that takes each figure, as a line of JSON")
}

func (s *setup) find() error {
	if s.ours == "" {
		return errors.New("--server or ORRERY_BIN must name the server under test")
	}
	if s.members < 1 || s.rounds < 1 {
		return errors.New("there is no cluster without members, and no table without a round")
	}
	for _, one := range []server{{oursName, s.ours}, {etcdName, s.etcd}} {
		if one.binary == "" {
			continue
		}
		if _, err := os.Stat(one.binary); err != nil {
			return err
		}
		s.servers = append(s.servers, one)
	}
	return nil
}

// turns are the servers of a round; the other one is first in every second round, so that neither has
// the better time.
func (s *setup) turns(round int) []server {
	order := slices.Clone(s.servers)
	if round%2 == 1 {
		slices.Reverse(order)
	}
	return order
}

func (s *setup) start(ctx context.Context, of server, flags ...string) (*cluster, error) {
	return startCluster(ctx, of, s.members, s.plain, flags...)
}

func (s *setup) describe() string {
	transport := "TLS"
	if s.plain {
		transport = "no TLS"
	}
	var names []string
	for _, one := range s.servers {
		names = append(names, one.name)
	}
	return fmt.Sprintf("%s; members: %d; %s; rounds: %d", strings.Join(names, " and "), s.members,
		transport, s.rounds)
}

// exclusive waits until nothing else on this machine loads or measures: benches and fault tests take
// the same lock. Whoever dies gives it back.
func exclusive(ctx context.Context) (*os.File, error) {
	file, err := os.Create(filepath.Join(os.TempDir(), "orrery-heavy.lock"))
	if err != nil {
		return nil, err
	}
	for told := false; ; {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, err
		}
		if !told {
			fmt.Fprintln(os.Stderr, "waiting for another run on this machine")
			told = true
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// pause is a sleep that ends early, with an error, when the run is to end.
func pause(ctx context.Context, duration time.Duration) error {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
