package plane

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
)

const (
	firstPort = 10_000
	portTries = 1_000
)

// freePort is one that nobody listens on. It is below those that the system gives to outgoing
// connections: a program that was killed comes back on its port, which must not be taken by then.
func freePort() (int, error) {
	lastPort := 32_767
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		var first int
		if _, err := fmt.Sscan(string(text), &first); err == nil && first > firstPort {
			lastPort = first - 1
		}
	}
	for range portTries {
		port := firstPort + rand.IntN(lastPort-firstPort)
		listener, err := net.Listen("tcp", loopback(port))
		if err != nil {
			continue
		}
		return port, listener.Close()
	}
	return 0, errors.New("no port is free")
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
