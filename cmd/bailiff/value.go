package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/bailiff-secrets/bailiff/api"
)

// readValue turns what -v was given into a JSON object. No error repeats a value.
func readValue(values []string, stdin io.Reader) (json.RawMessage, error) {
	if len(values) == 1 {
		v := values[0]
		name, isFile := strings.CutPrefix(v, "@")
		switch {
		case v == "-":
			b, err := readAll(stdin, "standard input")
			if err != nil {
				return nil, err
			}
			return objectOf(b, "standard input")
		case isFile:
			b, err := readFile(name)
			if err != nil {
				return nil, err
			}
			return objectOf(b, name)
		case strings.HasPrefix(strings.TrimSpace(v), "{") || !strings.Contains(strings.TrimRight(v, "="), "="):
			return objectOfText(v)
		}
	}
	out := make(map[string]string, len(values))
	for _, v := range values {
		key, value, ok := strings.Cut(v, "=")
		if !ok || key == "" {
			return nil, hinted("-v key=value, and once more for each further key; @file, - and JSON stand alone",
				"a value is not of the form key=value")
		}
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("key %q is given twice", key)
		}
		value, err := valueOf(key, value)
		if err != nil {
			return nil, err
		}
		out[key] = value
	}
	return json.Marshal(out)
}

// valueOf reads key=@file; \@ is an @ that begins a value.
func valueOf(key, value string) (string, error) {
	if rest, ok := strings.CutPrefix(value, `\@`); ok {
		return "@" + rest, nil
	}
	name, isFile := strings.CutPrefix(value, "@")
	if !isFile {
		if !utf8.ValidString(value) {
			return "", notText("the value of key " + key)
		}
		return value, nil
	}
	b, err := readFile(name)
	if err != nil {
		return "", err
	}
	if !utf8.Valid(b) {
		return "", notText(name)
	}
	return string(b), nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read a value: %w", err)
	}
	defer f.Close()
	return readAll(f, name)
}

// objectOf is a JSON object as it is, or other text, less one line feed at its end, as the key "value".
func objectOf(b []byte, name string) (json.RawMessage, error) {
	var object map[string]json.RawMessage
	if json.Unmarshal(b, &object) == nil && object != nil {
		return bytes.TrimSpace(b), nil
	}
	if !utf8.Valid(b) {
		return nil, notText(name)
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("%s holds nothing", name)
	}
	s := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	return json.Marshal(map[string]string{"value": s})
}

// objectOfText is a JSON object, its base64 form, or key=.
func objectOfText(v string) (json.RawMessage, error) {
	quoted, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	raw := json.RawMessage(quoted)
	if strings.HasPrefix(strings.TrimSpace(v), "{") {
		raw = json.RawMessage(v)
	}
	value, err := api.ParseValue(raw)
	if err != nil {
		return nil, hinted("-v key=value, -v @file, -v - or -v '{…}'", "the value is neither key=value nor a JSON object")
	}
	return json.RawMessage(value.Reveal()), nil
}

func notText(what string) error {
	return hinted("encode it first, as with base64", "%w", errors.New(what+" is not UTF-8 text"))
}
