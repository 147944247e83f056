package eventlog

// AtMost makes a run delete at most so many rows.
func (p *Purger) AtMost(rows int64) { p.most = rows }
