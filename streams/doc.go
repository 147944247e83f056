// Package streams keeps events in Redis Streams and hands them to consumer
// groups; nobody else in the project speaks Redis. It knows no provider, no
// handler and no SQL.
//
// A Writer appends records: one script a record looks for the mark of the
// event's ID and, where there is none, adds the entry and then the mark, so that
// a redelivery is a duplicate and a lost reply can be answered by sending the
// command again. A Group reads them: one owner at a time holds a partition under
// a lease with an epoch, and every script that moves an entry checks the epoch
// first, so that an owner that stood still can neither read nor settle.
//
// What Redis did not confirm is an error wrapping ErrUnavailable. It never means
// that nothing happened, only that nobody may be told that it did.
package streams
