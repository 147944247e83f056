package event

// moment is a time in milliseconds since 1970. It is 0 where there was no event, and
// unknownMoment where there was one that tells no time.
type moment int64

const unknownMoment moment = 1

// attempt is what was told of one try to pay. Each member is the latest moment at
// which its word was told.
type attempt struct {
	Pending    moment `json:"pending,omitempty"`
	Authorized moment `json:"authorized,omitempty"`
	Failed     moment `json:"failed,omitempty"`
	Closed     moment `json:"closed,omitempty"`
}

// joinAttempt keeps the later of each.
func joinAttempt(a, b attempt) (attempt, growth) {
	var g growth
	for _, m := range [...]struct {
		to   *moment
		from moment
	}{
		{&a.Pending, b.Pending}, {&a.Authorized, b.Authorized}, {&a.Failed, b.Failed}, {&a.Closed, b.Closed},
	} {
		switch {
		case m.from <= *m.to:
			continue
		case *m.to == 0:
			g |= tried
		default:
			g |= moved
		}
		*m.to = m.from
	}
	return a, g
}

// last is the latest sign that the attempt is, or was, under way.
func (a attempt) last() moment { return max(a.Pending, a.Authorized, a.Failed) }

// within reports whether a closing at that moment that names no attempt closes this
// one: it closes what was there before it. At an unknown time it closes everything.
func (a attempt) within(closing moment) bool {
	return closing == unknownMoment || closing != 0 && a.last() <= closing
}

// attempts are all attempts of an order, as its status looks at them.
type attempts struct {
	authorized bool // One that is not closed holds reserved money.
	pending    moment
	failed     moment
	closed     moment // The latest closing, of whichever attempt.
}

// add takes one attempt in. The attempt without a name stands for all that were told
// without one: a later one of them is open again.
func (s *attempts) add(a attempt, named bool, closing moment) {
	s.closed = max(s.closed, a.Closed)
	if named && a.Closed != 0 || a.within(closing) {
		return
	}
	s.authorized = s.authorized || a.Authorized != 0
	s.pending = max(s.pending, a.Pending)
	s.failed = max(s.failed, a.Failed)
}

// status is that of an order nobody has paid. It is closed only when no attempt is
// open; of attempts that failed and were closed the later one decides, and at one
// moment an end counts more than a beginning.
func (s *attempts) status() Status {
	switch {
	case s.authorized:
		return StatusAuthorized
	case s.pending > s.failed:
		return StatusPending
	case s.closed != 0 && s.closed >= s.failed:
		return StatusClosed
	case s.failed != 0:
		return StatusFailed
	default:
		return StatusUnknown
	}
}

// attempts gathers the attempts of all accounts.
func (s *state) attempts() attempts {
	var all attempts
	// Of those without a name nobody knows which a later closing is about: it closes
	// what there was before it.
	closings := s.Unnamed.Closed
	for _, l := range s.Accounts {
		closing := latest(s.Unnamed.Closed, l.Attempts[""].Closed)
		for name, a := range l.Attempts {
			all.add(a, name != "", closing)
			closings = latest(closings, a.Closed)
		}
	}
	all.add(s.Unnamed, false, closings)
	return all
}

// latest is the later of two closings; one at an unknown time is later than any.
func latest(a, b moment) moment {
	if a == unknownMoment || b == unknownMoment {
		return unknownMoment
	}
	return max(a, b)
}
