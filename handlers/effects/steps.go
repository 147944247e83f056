package effects

// Step is a point inside the work on a batch at which a test may stop it: return
// an error, panic, or kill the process.
type Step string

// The steps of one transaction, in order.
const (
	// StepBegun: the transaction is open.
	StepBegun Step = "begun"
	// StepFenced: the owner's epoch was looked at.
	StepFenced Step = "fenced"
	// StepKeyed: the dedup keys are inserted.
	StepKeyed Step = "keyed"
	// StepApplied: the effects are made; the commit comes next.
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
