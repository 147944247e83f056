package configs

import (
	_ "embed" // the reference page travels in the binary
	"fmt"

	"go.yaml.in/yaml/v3"
)

// Reference is the page that explains every key: an example configuration with
// each default. It is generated from the Options' own documentation; a test fails
// when it is stale.
//
//go:embed paybell.example.yaml
var Reference string

// Print renders the configuration in force as YAML. Secrets are named by their
// source; their values were never read.
func Print(c *Config) ([]byte, error) {
	b, err := yaml.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("print configuration: %w", err)
	}
	return b, nil
}
