// Package s3 keeps objects in a bucket of Amazon S3 or of a server that speaks
// its protocol and honours If-None-Match.
//
// It calls the API by the AWS SDK itself: gocloud's driver, which the other clouds
// use, hides what Weir's correctness hangs on (409 is Unknown there), asks twice
// for a Delete and cannot list from a key on.
//
// Concurrency: a Store is safe for concurrent use.
//
// Durability: the bucket's. What decides a write is one request, PutObject or
// CompleteMultipartUpload. Where it is conditional the SDK may not repeat it:
// repeated after a lost answer, it would find its own object and report
// somebody else's. A lost answer is objstore.ErrAmbiguous instead.
package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/weirstream/weir/internal/objstore"
)

// Options configures Open of one bucket. A zero field means its default.
type Options struct {
	Bucket string // required
	Prefix string // keys are below it; none

	Endpoint  string // URL of the server; AWS's own, or AWS_ENDPOINT_URL
	Region    string // AWS_REGION, else us-east-1
	PathStyle *bool  // bucket in the path, not in the host name; true with an Endpoint

	AccessKey, SecretKey, SessionToken string // the AWS_* environment, files and instance roles

	PartBytes int64 // size of a part, and of the largest body sent in one request; 8 MiB
	Parallel  int   // parts in flight per object; 4

	Tries int // of a request that may be repeated, by the SDK; 3

	// ResponseTimeout bounds the wait for the first byte of an answer; 60s. A write
	// that exceeds it is ambiguous.
	ResponseTimeout time.Duration
}

const (
	minPart  = 5 << 20 // S3's smallest part, the last one excepted
	maxParts = 10_000
	maxCopy  = 5 << 30 // S3's largest CopyObject
)

func (o *Options) fill() error {
	if o.PartBytes == 0 {
		o.PartBytes = 8 << 20
	}
	if o.Parallel == 0 {
		o.Parallel = 4
	}
	if o.Tries == 0 {
		o.Tries = 3
	}
	if o.ResponseTimeout == 0 {
		o.ResponseTimeout = time.Minute
	}
	o.Prefix = strings.Trim(o.Prefix, "/")
	var errs []error
	if o.Bucket == "" {
		errs = append(errs, errors.New("the bucket is missing: want s3://bucket/prefix"))
	}
	if o.Prefix != "" {
		if err := objstore.CheckKey(o.Prefix); err != nil {
			errs = append(errs, fmt.Errorf("prefix: %w", err))
		}
	}
	if o.Endpoint != "" {
		if u, err := url.Parse(o.Endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			errs = append(errs, fmt.Errorf("endpoint %q: want http://host:port or https://host", o.Endpoint))
		}
	}
	if (o.AccessKey == "") != (o.SecretKey == "") {
		errs = append(errs, errors.New("access_key and secret_key go together: give both or none"))
	}
	if o.PartBytes < minPart {
		errs = append(errs, fmt.Errorf("part_bytes %d is below S3's smallest part, %d", o.PartBytes, minPart))
	}
	if o.Parallel < 1 {
		errs = append(errs, fmt.Errorf("parallel %d is below 1", o.Parallel))
	}
	if o.Tries < 1 {
		errs = append(errs, fmt.Errorf("tries %d is below 1", o.Tries))
	}
	if o.ResponseTimeout < 0 {
		errs = append(errs, fmt.Errorf("response_timeout %v is negative", o.ResponseTimeout))
	}
	return errors.Join(errs...)
}

// Open opens the bucket that u names: s3://bucket/prefix with any of the options
//
//	endpoint region path_style access_key secret_key session_token
//	part_bytes parallel tries response_timeout
//
// It makes no request: what is wrong with the bucket is told by the first call. It
// is an objstore.Opener.
func Open(ctx context.Context, u *url.URL) (objstore.Store, error) {
	opts, err := parseURL(u)
	if err != nil {
		return nil, fmt.Errorf("objstore/s3: open s3://%s%s: %w", u.Host, u.Path, err)
	}
	return New(ctx, opts)
}

func parseURL(u *url.URL) (Options, error) {
	o := Options{Bucket: u.Host, Prefix: u.Path}
	err := objstore.URLOptions{
		"endpoint": &o.Endpoint, "region": &o.Region, "path_style": &o.PathStyle,
		"access_key": &o.AccessKey, "secret_key": &o.SecretKey, "session_token": &o.SessionToken,
		"part_bytes": &o.PartBytes, "parallel": &o.Parallel, "tries": &o.Tries, "response_timeout": &o.ResponseTimeout,
	}.Parse(u.Query(), nil)
	return o, err
}

// A Store keeps objects in one bucket, below one prefix.
type Store struct {
	client *s3.Client
	http   *awshttp.BuildableClient
	opts   Options
	base   string // what keys are prefixed with: empty, or ends in '/'
}

// New returns the store that opts describe. It makes no request.
func New(ctx context.Context, opts Options) (*Store, error) {
	if err := opts.fill(); err != nil {
		return nil, fmt.Errorf("objstore/s3: open s3://%s/%s: %w", opts.Bucket, opts.Prefix, err)
	}
	client := awshttp.NewBuildableClient().WithDialerOptions(func(d *net.Dialer) {
		d.Timeout = 10 * time.Second
	}).WithTransportOptions(func(t *http.Transport) {
		t.ResponseHeaderTimeout = opts.ResponseTimeout
		t.MaxIdleConnsPerHost = 64
	})
	load := []func(*config.LoadOptions) error{config.WithHTTPClient(client), config.WithRetryMaxAttempts(opts.Tries)}
	if opts.AccessKey != "" {
		load = append(load, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(opts.AccessKey, opts.SecretKey, opts.SessionToken)))
	}
	if opts.Region != "" {
		load = append(load, config.WithRegion(opts.Region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("objstore/s3: open s3://%s: load the AWS configuration: %w", opts.Bucket, err)
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	s := &Store{http: client, opts: opts}
	if opts.Prefix != "" {
		s.base = opts.Prefix + "/"
	}
	s.client = s3.NewFromConfig(cfg, func(o *s3.Options) {
		if opts.Endpoint != "" {
			o.BaseEndpoint = &opts.Endpoint
		}
		o.UsePathStyle = o.BaseEndpoint != nil
		o.DisableLogOutputChecksumValidationSkipped = true // no line per object of other writers
		if opts.PathStyle != nil {
			o.UsePathStyle = *opts.PathStyle
		}
	})
	return s, nil
}

// once keeps the SDK from repeating a request whose repetition would lie.
func once(o *s3.Options) { o.RetryMaxAttempts = 1 }

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string) (io.ReadCloser, objstore.Info, error) {
	if err := objstore.Check(ctx, key); err != nil {
		return nil, objstore.Info{}, err
	}
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.opts.Bucket, Key: aws.String(s.base + key)})
	if err != nil {
		return nil, objstore.Info{}, s.fail(ctx, reading, "get", key, err)
	}
	info := objstore.Info{Key: key, Size: aws.ToInt64(out.ContentLength), ModTime: aws.ToTime(out.LastModified), ETag: etag(out.ETag)}
	return &body{s, ctx, key, out.Body}, info, nil
}

// GetRange implements objstore.Store.
func (s *Store) GetRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := objstore.Check(ctx, key); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, fmt.Errorf("objstore/s3: get %s: offset %d is below zero", s.name(key), offset)
	}
	if length == 0 { // S3 has no empty range
		_, err := s.Stat(ctx, key)
		return http.NoBody, err
	}
	in := &s3.GetObjectInput{Bucket: &s.opts.Bucket, Key: aws.String(s.base + key)}
	switch {
	case length > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	case offset > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", offset))
	}
	out, err := s.client.GetObject(ctx, in)
	if err != nil {
		err = s.fail(ctx, reading, "get", key, err)
		if offset == 0 && errors.Is(err, objstore.ErrRange) { // an empty object
			return http.NoBody, nil
		}
		return nil, err
	}
	if offset > 0 && out.ContentRange == nil { // other bytes would be taken for these
		out.Body.Close()
		return nil, fmt.Errorf("objstore/s3: get %s: the server ignored the range %s", s.name(key), *in.Range)
	}
	if length > 0 && out.ContentRange == nil {
		return &limited{io.LimitReader(&body{s, ctx, key, out.Body}, length), out.Body}, nil
	}
	return &body{s, ctx, key, out.Body}, nil
}

type limited struct {
	io.Reader
	io.Closer
}

// body is an answer's body; what breaks it off may pass.
type body struct {
	store *Store
	ctx   context.Context
	key   string
	r     io.ReadCloser
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF {
		err = b.store.fail(b.ctx, reading, "get", b.key, err)
	}
	return n, err
}

func (b *body) Close() error { return b.r.Close() }

// Stat implements objstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (objstore.Info, error) {
	if err := objstore.Check(ctx, key); err != nil {
		return objstore.Info{}, err
	}
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.opts.Bucket, Key: aws.String(s.base + key)})
	if err != nil {
		return objstore.Info{}, s.fail(ctx, reading, "stat", key, err)
	}
	return objstore.Info{Key: key, Size: aws.ToInt64(out.ContentLength), ModTime: aws.ToTime(out.LastModified), ETag: etag(out.ETag)}, nil
}

// List implements objstore.Store. Keys that no store takes, such as the folder
// marks of other tools, are left out.
func (s *Store) List(ctx context.Context, prefix, startAfter string, limit int) ([]objstore.Info, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if limit <= 0 || limit > 1000 {
		limit = 1000
	}
	in := &s3.ListObjectsV2Input{Bucket: &s.opts.Bucket, Prefix: aws.String(s.base + prefix), MaxKeys: aws.Int32(int32(limit)),
		EncodingType: types.EncodingTypeUrl} // XML cannot hold every key that others may have put here
	if startAfter != "" {
		in.StartAfter = aws.String(s.base + startAfter)
	}
	for {
		out, err := s.client.ListObjectsV2(ctx, in)
		if err != nil {
			return nil, s.fail(ctx, reading, "list", prefix, err)
		}
		var page []objstore.Info
		for _, o := range out.Contents {
			name := aws.ToString(o.Key)
			if out.EncodingType == types.EncodingTypeUrl { // the server knows it
				if name, err = url.QueryUnescape(name); err != nil {
					return nil, fmt.Errorf("objstore/s3: list %s: key %q: %w", s.name(prefix), aws.ToString(o.Key), err)
				}
			}
			key, ok := strings.CutPrefix(name, s.base)
			if ok && objstore.CheckKey(key) == nil {
				page = append(page, objstore.Info{Key: key, Size: aws.ToInt64(o.Size), ModTime: aws.ToTime(o.LastModified), ETag: etag(o.ETag)})
			}
		}
		if len(page) > 0 || !aws.ToBool(out.IsTruncated) {
			return page, nil
		}
		in.ContinuationToken = out.NextContinuationToken
	}
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := objstore.Check(ctx, key); err != nil {
		return err
	}
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.opts.Bucket, Key: aws.String(s.base + key)})
	if err != nil {
		if err = s.fail(ctx, writing, "delete", key, err); errors.Is(err, objstore.ErrNotFound) {
			return nil
		}
	}
	return err
}

// Close implements objstore.Store.
func (s *Store) Close() error {
	s.http.GetTransport().CloseIdleConnections()
	return nil
}

func (s *Store) name(key string) string { return "s3://" + s.opts.Bucket + "/" + s.base + key }

func etag(p *string) string { return strings.Trim(aws.ToString(p), `"`) }
