package plane

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// How long a program may take to end by itself before it is killed.
const grace = 15 * time.Second

// program is what to start, and the file that takes what it prints.
type program struct {
	path        string
	arguments   []string
	environment []string
	log         string
}

// process is a program that runs, in a process group of its own: Ctrl-C in a terminal reaches only
// whoever started it, who ends it in its turn.
type process struct {
	command *exec.Cmd
	ended   chan struct{}
}

func (p program) start() (*process, error) {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	command := exec.Command(p.path, p.arguments...)
	command.Env = append(os.Environ(), p.environment...)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", p.path, err)
	}
	started := &process{command: command, ended: make(chan struct{})}
	go func() {
		// How it ended is told by its log.
		_ = command.Wait()
		close(started.ended)
	}()
	return started, nil
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// send has no effect on a process that has ended.
func (p *process) send(signal syscall.Signal) { _ = p.command.Process.Signal(signal) }

func (p *process) kill() {
	p.send(syscall.SIGKILL)
	<-p.ended
}

// stop asks the program to end.
func (p *process) stop() {
	p.send(syscall.SIGTERM)
	// A program that is paused hears nothing.
	p.send(syscall.SIGCONT)
	select {
	case <-p.ended:
	case <-time.After(grace):
		p.kill()
	}
}

// service is a program that is started again when it ends, as a kubelet does it: a controller manager
// that loses its lease, for one, ends.
type service struct {
	stopping chan struct{}
	stopped  chan struct{}

	mutex    sync.Mutex
	restarts int
}

// How long a service that has ended stays down.
const restartPause = time.Second

func (p program) serve() (*service, error) {
	current, err := p.start()
	if err != nil {
		return nil, err
	}
	s := &service{stopping: make(chan struct{}), stopped: make(chan struct{})}
	go func() {
		defer close(s.stopped)
		for {
			select {
			case <-s.stopping:
				current.stop()
				return
			case <-current.ended:
			}
			select {
			case <-s.stopping:
				return
			case <-time.After(restartPause):
			}
			s.mutex.Lock()
			s.restarts++
			s.mutex.Unlock()
			if next, err := p.start(); err == nil {
				current = next
			}
		}
	}()
	return s, nil
}

func (s *service) stop() {
	close(s.stopping)
	<-s.stopped
}

func (s *service) restarted() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.restarts
}
