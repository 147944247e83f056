package provider

import (
	"net/http"
	"net/textproto"
)

// SingleHeader returns the value of a header that takes part in verification.
// Missing and empty are one refusal. Two values are another: whichever we took,
// something in front of us may have looked at the other.
func SingleHeader(h http.Header, name string) (string, error) {
	value, ok, err := OptionalHeader(h, name)
	if err != nil {
		return "", err
	}
	if !ok || value == "" {
		return "", Refuse(ReasonMissingSignature, "header %s is missing or empty", textproto.CanonicalMIMEHeaderKey(name))
	}
	return value, nil
}

// OptionalHeader returns the value of a header that may be absent, and still
// refuses two of them.
func OptionalHeader(h http.Header, name string) (value string, ok bool, err error) {
	switch values := h.Values(name); len(values) {
	case 0:
		return "", false, nil
	case 1:
		return values[0], true, nil
	default:
		return "", false, Refuse(ReasonAmbiguous, "header %s came %d times", textproto.CanonicalMIMEHeaderKey(name), len(values))
	}
}

// EvidenceHeaders copies the named headers, those that are there, for
// event.Evidence.
func EvidenceHeaders(h http.Header, names ...string) map[string]string {
	out := make(map[string]string, len(names))
	for _, name := range names {
		name = textproto.CanonicalMIMEHeaderKey(name)
		if values := h[name]; len(values) > 0 {
			out[name] = values[0]
		}
	}
	return out
}
