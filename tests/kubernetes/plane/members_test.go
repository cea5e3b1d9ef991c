package plane

import (
	"context"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// onEach runs a test on three members of the server under test, and of etcd, which proves the test.
func onEach(t *testing.T, test func(t *testing.T, members *Members)) {
	for name, variable := range map[string]string{"orrery": "ORRERY_BIN", "etcd": "ETCD"} {
		t.Run(name, func(t *testing.T) {
			binary := os.Getenv(variable)
			if binary == "" {
				t.Skip(variable + " names no server")
			}
			members, err := StartMembers(t.Context(), binary, t.TempDir(), 3)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(members.Stop)
			test(t, members)
			for _, failed := range members.Failed() {
				t.Error(failed)
			}
		})
	}
}

// put asks some members for a write.
func (m *Members) put(ctx context.Context, within time.Duration, members ...int) error {
	var endpoints []string
	for _, i := range members {
		endpoints = append(endpoints, m.endpoint(i))
	}
	client, err := m.connect(endpoints...)
	if err != nil {
		return err
	}
	defer client.Close()
	return until(ctx, within, func() error {
		limited, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		_, err := client.Put(limited, "key", "value", clientv3.WithPrevKV())
		return err
	})
}

func TestAMemberThatIsCutOffTakesNoPartUntilItIsHealed(t *testing.T) {
	onEach(t, func(t *testing.T, members *Members) {
		leader, err := members.Leader(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		members.CutOff(leader)
		if err := members.put(t.Context(), readyPatience, (leader+1)%3, (leader+2)%3); err != nil {
			t.Error("the others take no write:", err)
		}
		if err := members.put(t.Context(), 0, leader); err == nil {
			t.Error("the member that is cut off took a write")
		}
		if err := members.Heal(t.Context(), leader); err != nil {
			t.Error(err)
		}
	})
}

func TestALeaderIsReplacedByAnEmptyMember(t *testing.T) {
	onEach(t, func(t *testing.T, members *Members) {
		leader, err := members.Leader(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := members.Remove(t.Context(), leader); err != nil {
			t.Fatal(err)
		}
		if err := members.put(t.Context(), readyPatience, (leader+1)%3, (leader+2)%3); err != nil {
			t.Error("the others take no write:", err)
		}
		if err := members.Add(t.Context(), leader); err != nil {
			t.Fatal(err)
		}
		if err := members.put(t.Context(), readyPatience, leader); err != nil {
			t.Error("the new member takes no write:", err)
		}
	})
}
