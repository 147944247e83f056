package proxy

import (
	"bufio"
	"errors"
	"io"
	"strconv"
)

// commands tells where a client's commands end: arrays of bulk strings, as the
// protocol's page "Sending commands to a Redis server" has it.
type commands struct{ in *bufio.Reader }

var errProtocol = errors.New("proxy: not a command")

func newCommands(r io.Reader) *commands { return &commands{bufio.NewReader(r)} }

// next reads one command.
func (c *commands) next() error {
	n, err := c.length('*')
	if err != nil {
		return err
	}
	for range n {
		size, err := c.length('$')
		if err != nil {
			return err
		}
		if _, err := c.in.Discard(size + len("\r\n")); err != nil {
			return err
		}
	}
	return nil
}

func (c *commands) length(kind byte) (int, error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 4 || line[0] != kind {
		return 0, errProtocol
	}
	return strconv.Atoi(string(line[1 : len(line)-2]))
}
