package main

// search finds the largest number of nodes that passes, by doubling and then halving the distance. It
// supposes that what passes with more nodes passes with fewer.
type search struct {
	first, limit int
	// The largest that passed and the smallest that failed; zero as long as there is none.
	passed, failed int
}

// A distance of an eighth is close enough: runs differ by more.
const searchResolution = 8

// Numbers of nodes are multiples of this.
const searchStep = 250

// next is the number to try, or false when the answer is close enough.
func (s *search) next() (int, bool) {
	switch {
	case s.passed == 0 && s.failed == 0:
		return min(s.first, s.limit), true
	case s.failed == 0:
		return min(2*s.passed, s.limit), s.passed < s.limit
	}
	middle := (s.passed + s.failed) / 2 / searchStep * searchStep
	done := s.failed-s.passed <= s.passed/searchResolution || middle <= s.passed
	return middle, !done
}

func (s *search) tried(nodes int, passed bool) {
	if passed {
		s.passed = max(s.passed, nodes)
	} else if s.failed == 0 || nodes < s.failed {
		s.failed = nodes
	}
}
