package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/paybell/paybell/configs/secret"
)

// adminFlags say how to reach the operator's door of a running process.
type adminFlags struct {
	Admin  string `placeholder:"URL" help:"Operator's door, such as http://127.0.0.1:9090; the default is the configured address."`
	Output string `enum:"table,json" default:"table" short:"o" help:"table or json."`
}

// adminClient asks a running process.
type adminClient struct {
	base  string
	token secret.String
	http  *http.Client
}

func (f adminFlags) client(g *globals) (*adminClient, error) {
	c, err := g.load()
	if err != nil {
		return nil, err
	}
	a := &adminClient{base: strings.TrimSuffix(f.Admin, "/"), http: &http.Client{Timeout: 15 * time.Second}}
	if a.base == "" {
		a.base = "http://" + c.Admin.Address
	}
	if !c.Admin.Token.IsZero() {
		token, err := c.Admin.Token.Read()
		if err != nil {
			return nil, fmt.Errorf("%w: admin.token: %w", errConfig, err)
		}
		a.token = token.Value
	}
	return a, nil
}

// doorError is an answer that is no success.
type doorError struct {
	status int
	text   string
}

// Error implements error.
func (e *doorError) Error() string { return e.text }

// get reads one answer into out and returns it as it came, too.
func (a *adminClient) get(ctx context.Context, path string, query url.Values, out any) ([]byte, error) {
	target := a.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", a.base, err)
	}
	return a.do(req, out)
}

// post asks for something to be done, reads the answer into out and returns it as it came,
// too.
func (a *adminClient) post(ctx context.Context, path string, in, out any) ([]byte, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", a.base, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", a.base, err)
	}
	req.Header.Set("Content-Type", "application/json")
	return a.do(req, out)
}

func (a *adminClient) do(req *http.Request, out any) ([]byte, error) {
	if !a.token.Empty() {
		req.Header.Set("Authorization", "Bearer "+a.token.Reveal())
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the operator's door: %w (is paybell running? --admin says where)", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var problem struct {
			Error struct {
				Message  string `json:"message"`
				Problems []struct {
					Parameter string `json:"parameter"`
					Problem   string `json:"problem"`
				} `json:"problems"`
			} `json:"error"`
		}
		if json.Unmarshal(body, &problem) == nil && problem.Error.Message != "" {
			text := []string{resp.Status + ": " + problem.Error.Message}
			for _, p := range problem.Error.Problems {
				text = append(text, p.Parameter+" "+p.Problem)
			}
			return nil, &doorError{resp.StatusCode, strings.Join(text, "; ")}
		}
		return nil, &doorError{resp.StatusCode, resp.Status + " from " + a.base}
	}
	if err := json.Unmarshal(body, out); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return body, nil
}

// printJSON prints an answer as it came.
func printJSON(body []byte) error {
	_, err := fmt.Fprintln(os.Stdout, strings.TrimSpace(string(body)))
	return err
}
