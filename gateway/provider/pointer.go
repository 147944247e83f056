package provider

import (
	"errors"
	"strings"
)

// unescapePointer decodes one name of a pointer. "~01" is "~1": the order counts.
func unescapePointer(name string) string {
	if strings.IndexByte(name, '~') < 0 {
		return name
	}
	return strings.ReplaceAll(strings.ReplaceAll(name, "~1", "/"), "~0", "~")
}

// ErrPointer is returned for text that is no JSON pointer into a document.
var ErrPointer = errors.New("must be a JSON pointer such as /data/object/id")

// CheckPointer reports whether At can follow the pointer somewhere below the
// root. Options use it.
func CheckPointer(pointer string) error {
	if pointer == "" || pointer[0] != '/' {
		return ErrPointer
	}
	for i := range len(pointer) {
		if pointer[i] == '~' && (i+1 == len(pointer) || (pointer[i+1] != '0' && pointer[i+1] != '1')) {
			return ErrPointer
		}
	}
	return nil
}
