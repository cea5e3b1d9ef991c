package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const (
	retryPause = 250 * time.Millisecond
	// How long a request may take before it is given up and made again.
	requestTimeout = 10 * time.Second
)

// errorCounts is how often requests failed, by what they were told.
type errorCounts struct {
	mutex  sync.Mutex
	counts map[string]int
}

func (e *errorCounts) add(kind string) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if e.counts == nil {
		e.counts = map[string]int{}
	}
	e.counts[kind]++
}

// take is the sum and a line for each kind; then it begins anew.
func (e *errorCounts) take() (int, []string) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	sum, lines := 0, []string{}
	for _, kind := range slices.Sorted(maps.Keys(e.counts)) {
		sum += e.counts[kind]
		lines = append(lines, fmt.Sprintf("%d x %s", e.counts[kind], kind))
	}
	e.counts = nil
	return sum, lines
}

// isAnswer tells of an error that says how things are, so that to ask again is no use.
func isAnswer(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) ||
		apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsGone(err) ||
		apierrors.IsResourceExpired(err) || apierrors.IsForbidden(err)
}

// Which connection it was does not matter.
var address = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// kindOf is the part of an error that is the same for many.
func kindOf(err error) string {
	var status apierrors.APIStatus
	var operation *net.OpError
	switch {
	case errors.As(err, &status):
		told := status.Status()
		message := address.ReplaceAllString(told.Message, "...")
		return fmt.Sprintf("%d %s: %.120s", told.Code, told.Reason, message)
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &operation):
		return operation.Op + ": " + operation.Err.Error()
	default:
		return fmt.Sprintf("%.120s", address.ReplaceAllString(err.Error(), "..."))
	}
}

// try makes a request of one API server after the other until there is an answer. It tells how often
// there was none: what failed may have been done all the same.
func (r *run) try(
	ctx context.Context, first int, request func(ctx context.Context, server int) error,
) (failed int, err error) {
	for deadline := time.Now().Add(patience); ; failed++ {
		limited, cancel := context.WithTimeout(ctx, requestTimeout)
		err := request(limited, (first+failed)%len(r.clients))
		cancel()
		if err == nil || isAnswer(err) {
			return failed, err
		}
		if ctx.Err() != nil {
			return failed, ctx.Err()
		}
		r.errors.add(kindOf(err))
		if time.Now().After(deadline) {
			return failed, fmt.Errorf("no retry cures it: %w", err)
		}
		pause(ctx, retryPause)
	}
}

// eventually waits for what must come about, and is told by `look` what is still missing.
func eventually(ctx context.Context, within time.Duration, look func() error) error {
	for deadline := time.Now().Add(within); ; {
		err := look()
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		pause(ctx, retryPause)
	}
}

func pause(ctx context.Context, length time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(length):
	}
}
