package gcs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/weirstream/weir/internal/objstore"
)

const scope = "https://www.googleapis.com/auth/devstorage.read_write"

// authorizer returns what adds a token to a request.
func authorizer(opts Options) func(ctx context.Context, r *http.Request) error {
	if opts.Anonymous {
		return func(context.Context, *http.Request) error { return nil }
	}
	t := &tokens{json: []byte(opts.CredentialsJSON), http: &http.Client{Timeout: 30 * time.Second}}
	return t.authorize
}

// tokens finds the credentials when they are first wanted, since looking for the
// machine's own account takes requests, and keeps the token that they yield.
type tokens struct {
	json []byte // named credentials; empty means what is found
	http *http.Client

	mu     sync.Mutex
	source oauth2.TokenSource // nil until they are found; guarded by mu
}

func (t *tokens) authorize(ctx context.Context, r *http.Request) error {
	type outcome struct {
		token *oauth2.Token
		err   error
	}
	done := make(chan outcome, 1)
	go func() { // a token's request knows no context
		token, err := t.token(context.WithoutCancel(ctx))
		done <- outcome{token, err}
	}()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case o := <-done:
		if o.err != nil {
			return o.err
		}
		o.token.SetAuthHeader(r)
		return nil
	}
}

func (t *tokens) token(ctx context.Context) (*oauth2.Token, error) {
	source, err := t.find(ctx)
	if err != nil {
		return nil, err
	}
	token, err := source.Token()
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) && refused.Response != nil && refused.Response.StatusCode >= 500 {
		return nil, fmt.Errorf("get a token: %w: %w", objstore.ErrRetry, err)
	}
	if err != nil {
		return nil, fmt.Errorf("get a token: %w", err)
	}
	return token, nil
}

func (t *tokens) find(ctx context.Context) (oauth2.TokenSource, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.source != nil {
		return t.source, nil
	}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, t.http)
	var found *google.Credentials
	var err error
	if len(t.json) > 0 {
		var c struct {
			Type google.CredentialsType `json:"type"`
		}
		if err = json.Unmarshal(t.json, &c); err == nil {
			found, err = google.CredentialsFromJSONWithType(ctx, t.json, c.Type, scope)
		}
		if err != nil {
			return nil, fmt.Errorf("credentials: %w", err)
		}
	} else if found, err = google.FindDefaultCredentials(ctx, scope); err != nil {
		return nil, fmt.Errorf("no credentials are found: set GOOGLE_APPLICATION_CREDENTIALS to a file, run gcloud auth application-default login, or say anonymous=true: %w", err)
	}
	t.source = oauth2.ReuseTokenSource(nil, found.TokenSource)
	return t.source, nil
}
