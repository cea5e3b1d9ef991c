package plane

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// nobody is who connects and is no member.
const nobody = -1

// network is what members reach each other through: a relay for each, under whose address the others
// know it. A member that is cut off sends and receives nothing, and no connection is closed: what is
// under way waits, as it does for a cable that was pulled.
type network struct {
	callers func(connection net.Conn) int

	mutex  sync.Mutex
	healed *sync.Cond
	cut    map[int]bool
	relays []net.Listener
}

func newNetwork(callers func(net.Conn) int) *network {
	n := &network{callers: callers, cut: map[int]bool{}}
	n.healed = sync.NewCond(&n.mutex)
	return n
}

// relay is the port under which others reach what a member listens on.
func (n *network) relay(member, port int) (int, error) {
	listener, err := net.Listen("tcp", loopback(0))
	if err != nil {
		return 0, err
	}
	n.relays = append(n.relays, listener)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go n.carry(connection, n.callers(connection), member, port)
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

func (n *network) carry(near net.Conn, from, to, port int) {
	defer near.Close()
	n.wait(from, to)
	far, err := net.Dial("tcp", loopback(port))
	if err != nil {
		return
	}
	defer far.Close()
	var directions sync.WaitGroup
	directions.Go(func() { n.pump(far, near, from, to) })
	directions.Go(func() { n.pump(near, far, from, to) })
	directions.Wait()
}

func (n *network) pump(into, out net.Conn, from, to int) {
	buffer := make([]byte, 64<<10)
	for {
		count, err := out.Read(buffer)
		n.wait(from, to)
		if count > 0 {
			if _, err := into.Write(buffer[:count]); err != nil {
				out.Close()
				return
			}
		}
		if err == io.EOF {
			_ = into.(*net.TCPConn).CloseWrite()
			return
		}
		if err != nil {
			into.Close()
			return
		}
	}
}

// wait holds what is sent between two members while one of them is cut off.
func (n *network) wait(from, to int) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	for n.cut[from] || n.cut[to] {
		n.healed.Wait()
	}
}

func (n *network) cutOff(member int) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.cut[member] = true
}

func (n *network) heal(member int) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	delete(n.cut, member)
	n.healed.Broadcast()
}

func (n *network) close() {
	for _, relay := range n.relays {
		relay.Close()
	}
	n.mutex.Lock()
	defer n.mutex.Unlock()
	clear(n.cut)
	n.healed.Broadcast()
}

// socketOf is the inode of the socket at the other end of a connection on this machine.
func socketOf(connection net.Conn) (string, bool) {
	remote, local := connection.RemoteAddr().(*net.TCPAddr), connection.LocalAddr().(*net.TCPAddr)
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return "", false
	}
	// 127.0.0.1 as the kernel prints it.
	ends := fmt.Sprintf(" 0100007F:%04X 0100007F:%04X ", remote.Port, local.Port)
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); strings.Contains(line, ends) && len(fields) > 9 {
			return fields[9], true
		}
	}
	return "", false
}

// holds tells whether a process has a socket open.
func holds(pid int, inode string) bool {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return false
	}
	for _, file := range files {
		if target, err := os.Readlink(file); err == nil && target == "socket:["+inode+"]" {
			return true
		}
	}
	return false
}
