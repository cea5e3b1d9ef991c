package kubeadm

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// process is a program that may be started again, and writes one log each time.
type process struct {
	t       *testing.T
	log     string
	running *exec.Cmd
}

func (p *process) run(command *exec.Cmd) {
	p.t.Helper()
	log, err := os.Create(p.log)
	check(p.t, err)
	defer log.Close()
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.running = command
	check(p.t, command.Start())
}

func (p *process) logged() string {
	log, _ := os.ReadFile(p.log)
	return string(log)
}

// down is how the kubelet stops a pod whose manifest is gone.
func (p *process) down() { p.stop(syscall.SIGTERM) }

func (p *process) stop(signal syscall.Signal) {
	if p.running != nil {
		syscall.Kill(-p.running.Process.Pid, signal)
		p.running.Wait()
		p.running = nil
	}
}

// end kills it, and shows the last lines of the log of a test that failed.
func (p *process) end(name string, shown int) {
	p.stop(syscall.SIGKILL)
	if p.t.Failed() {
		lines := strings.Split(strings.TrimSpace(p.logged()), "\n")
		p.t.Logf("%s ends with:\n%s", name, strings.Join(lines[max(0, len(lines)-shown):], "\n"))
	}
}
