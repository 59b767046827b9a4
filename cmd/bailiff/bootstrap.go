package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bailiff-secrets/bailiff/api"
)

func (a *app) bootstrapCommand() *cobra.Command {
	var socket, name string
	cmd := &cobra.Command{
		Use:   "bootstrap --socket PATH",
		Short: "Make the first administrator, once",
		Long: `Make the first administrator of a new server, with an access key that is shown this one time.
It is asked for on the server's local socket, which only the user that runs the server can reach.`,
		Example: `  bailiff bootstrap --socket /var/lib/bailiff/admin.sock
  eval "$(bailiff bootstrap --socket /var/lib/bailiff/admin.sock)"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := bootstrap(cmd.Context(), socket, name)
			if err != nil {
				return err
			}
			if a.format != "table" {
				return a.print(key, table{})
			}
			fmt.Fprintf(a.stdout, "# The first administrator is %s. The access key is shown only now.\n", plain(key.Name))
			return a.printExports(key)
		},
	}
	cmd.Flags().StringVar(&socket, "socket", "", "the server's local socket (required)")
	cmd.Flags().StringVar(&name, "name", "admin", "name of the identity to make")
	require(cmd, "socket")
	a.formatFlag(cmd)
	return cmd
}

// printExports prints lines for a shell. A token has no characters that a shell would read, and is checked for it.
func (a *app) printExports(key api.NewKey) error {
	token := key.AccessID + ".." + key.AccessKey
	const harmless = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
	if strings.Trim(token, harmless) != "" {
		return errors.New("the server made a key that can't be printed for a shell")
	}
	_, err := fmt.Fprintf(a.stdout, "export BAILIFF_TOKEN=%s\nexport VAULT_TOKEN=%s\n", token, token)
	return err
}

// bootstrap asks for the first administrator on the local socket.
func bootstrap(ctx context.Context, socket, name string) (api.NewKey, error) {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	defer tr.CloseIdleConnections()
	body, err := json.Marshal(map[string]string{"name": name})
	if err != nil {
		return api.NewKey{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://bailiff/bootstrap", bytes.NewReader(body))
	if err != nil {
		return api.NewKey{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := tr.RoundTrip(req)
	if err != nil {
		err = &url.Error{Op: "ask", URL: socket, Err: err} // counts as the server's
		return api.NewKey{}, hinted("is the server running, and are you the user that runs it? Its configuration names the socket", "%w", err)
	}
	defer resp.Body.Close()
	return bootstrapped(resp)
}

func bootstrapped(resp *http.Response) (api.NewKey, error) {
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return api.NewKey{}, fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return api.NewKey{}, api.ReadError(resp.StatusCode, b)
	}
	var key api.NewKey
	if err := json.Unmarshal(b, &key); err != nil || key.AccessID == "" || key.AccessKey == "" {
		return api.NewKey{}, errors.New("the server's answer holds no access key")
	}
	return key, nil
}
