// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// httpClient keeps up to conns idle connections per host, HTTP/1.1.
func httpClient(conns int) *http.Client {
	return &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: conns, IdleConnTimeout: time.Minute},
	}
}

// grpcClient speaks HTTP/2 in clear.
func grpcClient() *http.Client {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: protocols}}
}

// Answer is what `shop get` prints as JSON.
type Answer struct {
	Status int         `json:"status"`
	Header http.Header `json:"header"`
	Body   string      `json:"body"`
	Error  string      `json:"error,omitempty"` // instead of the others
}

func runGet(ctx context.Context, args []string) error {
	flags := newFlags("get")
	method := flags.String("method", http.MethodGet, "method")
	body := flags.String("body", "", "body")
	header := flags.String("header", "", "headers, name=value,...")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	answer, err := get(ctx, *method, flags.Arg(0), *header, *body)
	if err != nil {
		answer = Answer{Error: err.Error()}
	}
	return json.NewEncoder(os.Stdout).Encode(answer)
}

func get(ctx context.Context, method, url, header, body string) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	for pair := range strings.SplitSeq(header, ",") {
		if name, value, ok := strings.Cut(pair, "="); ok {
			req.Header.Set(name, value)
		}
	}
	resp, err := httpClient(1).Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(text)}, err
}

// runJob makes one purchase and exits, as a Job's container does.
func runJob(ctx context.Context, args []string) error {
	flags := newFlags("job")
	url := flags.String("url", "http://web/buy", "what to get")
	if err := flags.Parse(args); err != nil {
		return err
	}
	answer, err := get(ctx, http.MethodGet, *url, "", "")
	if err != nil {
		return err
	}
	if answer.Status != http.StatusOK {
		return errors.New(answer.Body)
	}
	fmt.Println(answer.Body)
	return nil
}
