package effects

// Step is a point inside the work on a batch at which a test may stop it: return
// an error, panic, or kill the process.
type Step string

// The steps of one transaction, in order.
const (
	// StepBegun: the transaction has its connection.
	StepBegun Step = "begun"
	// StepFenced: the fence is locked, and the dedup keys sent along with it are inserted.
	StepFenced Step = "fenced"
	// StepKeyed: it is known which deliveries have their effect now.
	StepKeyed Step = "keyed"
	// StepApplied: the effects are made, or queued to be sent with the commit.
	StepApplied Step = "applied"
	// StepCommitted: the commit was answered; the outcomes are not yet given.
	StepCommitted Step = "committed"
)

// Steps lists every step, in order.
func Steps() []Step {
	return []Step{StepBegun, StepFenced, StepKeyed, StepApplied, StepCommitted}
}

func stop(at func(Step) error, s Step) error {
	if at == nil {
		return nil
	}
	return at(s)
}
