package s3

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/weirstream/weir/internal/objstore"
)

// Put implements objstore.Store. A body up to Options.PartBytes is one request, a
// larger one is sent in parts; memory is at most PartBytes times Parallel.
func (s *Store) Put(ctx context.Context, key string, body io.Reader, size int64) error {
	return s.put(ctx, key, body, size, false)
}

// PutIfAbsent implements objstore.Store by If-None-Match on the request that
// decides.
func (s *Store) PutIfAbsent(ctx context.Context, key string, body io.Reader, size int64) error {
	return s.put(ctx, key, body, size, true)
}

func (s *Store) put(ctx context.Context, key string, body io.Reader, size int64, ifAbsent bool) error {
	if err := objstore.Check(ctx, key); err != nil {
		return err
	}
	c := objstore.NewCutter("objstore/s3: put "+s.name(key), body, size, s.opts.PartBytes, maxParts)
	first, err := c.First(ctx, s, key, ifAbsent)
	if err != nil {
		return err
	}
	if c.Done() {
		return s.putWhole(ctx, key, first, ifAbsent)
	}
	return s.inParts(ctx, "put", key, ifAbsent, types.ChecksumAlgorithmCrc32, func(ctx context.Context, upload *string) ([]types.CompletedPart, error) {
		return s.sendParts(ctx, key, upload, c, first)
	})
}

// putWhole writes the object in one request.
func (s *Store) putWhole(ctx context.Context, key string, b []byte, ifAbsent bool) error {
	in := &s3.PutObjectInput{Bucket: &s.opts.Bucket, Key: aws.String(s.base + key), Body: bytes.NewReader(b), ContentLength: aws.Int64(int64(len(b)))}
	var opts []func(*s3.Options)
	if ifAbsent {
		in.IfNoneMatch = aws.String("*")
		opts = append(opts, once)
	}
	if _, err := s.client.PutObject(ctx, in, opts...); err != nil {
		return s.fail(ctx, writing, "put", key, err)
	}
	return nil
}

// inParts runs a multipart upload: send delivers the parts, then one request makes
// them the object. Sums names the checksums that the parts will carry: the SDK adds
// CRC32 to what it sends, and none to what the server copies. An upload that fails is aborted, so that its parts cost
// nothing; one whose abort fails is left to the bucket's life-cycle rule.
func (s *Store) inParts(ctx context.Context, op, key string, ifAbsent bool, sums types.ChecksumAlgorithm, send func(ctx context.Context, upload *string) ([]types.CompletedPart, error)) (err error) {
	name := aws.String(s.base + key)
	created, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &s.opts.Bucket, Key: name, ChecksumAlgorithm: sums})
	if err != nil {
		return s.fail(ctx, reading, op, key, err)
	}
	defer func() {
		if err != nil && !errors.Is(err, objstore.ErrAmbiguous) { // an ambiguous one may be completing
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			_, _ = s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.opts.Bucket, Key: name, UploadId: created.UploadId})
		}
	}()
	parts, err := send(ctx, created.UploadId)
	if err != nil {
		return err
	}
	in := &s3.CompleteMultipartUploadInput{
		Bucket: &s.opts.Bucket, Key: name, UploadId: created.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	}
	if ifAbsent {
		in.IfNoneMatch = aws.String("*")
	}
	return s.complete(ctx, op, key, in)
}

// complete makes the parts the object. The SDK may not repeat the request, but what
// S3 itself turned away for speed had no effect, and the body may not come again. A
// conflict is no such answer: it spoils the upload, and the caller must begin anew.
func (s *Store) complete(ctx context.Context, op, key string, in *s3.CompleteMultipartUploadInput) error {
	var last error
	err := objstore.Backoff{Tries: s.opts.Tries, First: 100 * time.Millisecond}.Do(ctx, func() error {
		_, err := s.client.CompleteMultipartUpload(ctx, in, once)
		if last = err; err != nil {
			last = s.fail(ctx, writing, op, key, err)
		}
		if throttled(err) {
			return last
		}
		return nil
	})
	if err != nil {
		return err
	}
	return last
}

// sendParts sends first and what c still has, Parallel parts at a time.
func (s *Store) sendParts(ctx context.Context, key string, upload *string, c *objstore.Cutter, first []byte) ([]types.CompletedPart, error) {
	var mu sync.Mutex
	var parts []types.CompletedPart
	err := c.Send(ctx, first, s.opts.Parallel, func(ctx context.Context, number int, part []byte) error {
		n := int32(number + 1)
		out, err := s.client.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &s.opts.Bucket, Key: aws.String(s.base + key), UploadId: upload, PartNumber: &n,
			Body: bytes.NewReader(part), ContentLength: aws.Int64(int64(len(part))),
		})
		if err != nil {
			return s.fail(ctx, reading, "put", key, err)
		}
		mu.Lock()
		defer mu.Unlock()
		parts = append(parts, types.CompletedPart{PartNumber: &n, ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32})
		return nil
	})
	slices.SortFunc(parts, func(a, b types.CompletedPart) int { return cmp.Compare(*a.PartNumber, *b.PartNumber) })
	return parts, err
}

// Copy implements objstore.Store, on the server. An object over S3's limit of 5 GiB
// is copied in parts.
func (s *Store) Copy(ctx context.Context, dst, src string) error {
	if err := objstore.Check(ctx, dst, src); err != nil {
		return err
	}
	info, err := s.Stat(ctx, src)
	if err != nil {
		return err
	}
	return s.copyFrom(ctx, dst, src, info, maxCopy)
}

// copyFrom copies the version of src that info describes; above limit, in parts of
// at most limit.
func (s *Store) copyFrom(ctx context.Context, dst, src string, info objstore.Info, limit int64) error {
	source := aws.String(copySource(s.opts.Bucket, s.base+src))
	match := aws.String(`"` + info.ETag + `"`)
	if info.Size <= limit {
		_, err := s.client.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &s.opts.Bucket, Key: aws.String(s.base + dst), CopySource: source})
		if err != nil {
			return s.fail(ctx, writing, "copy from "+src+" to", dst, err)
		}
		return nil
	}
	return s.inParts(ctx, "copy from "+src+" to", dst, false, "", func(ctx context.Context, upload *string) ([]types.CompletedPart, error) {
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(s.opts.Parallel)
		part := max(limit, info.Size/(maxParts-1)+1)
		done := make([]types.CompletedPart, (info.Size+part-1)/part)
		for i := range done {
			n := int32(i + 1)
			from := int64(i) * part
			to := min(from+part, info.Size) - 1
			g.Go(func() error {
				out, err := s.client.UploadPartCopy(ctx, &s3.UploadPartCopyInput{
					Bucket: &s.opts.Bucket, Key: aws.String(s.base + dst), UploadId: upload, PartNumber: &n,
					CopySource: source, CopySourceIfMatch: match, CopySourceRange: aws.String(fmt.Sprintf("bytes=%d-%d", from, to)),
				})
				if err != nil {
					err = s.fail(ctx, reading, "copy from "+src+" to", dst, err)
					if errors.Is(err, objstore.ErrExists) { // 412: the source changed under us
						err = fmt.Errorf("objstore/s3: copy from %s: it was replaced meanwhile: %w", s.name(src), objstore.ErrRetry)
					}
					return err
				}
				done[i] = types.CompletedPart{PartNumber: &n, ETag: out.CopyPartResult.ETag}
				return nil
			})
		}
		return done, g.Wait()
	})
}

// copySource escapes a source so that every server reads it alike: a blank as %20,
// since some do not take '+' for one.
func copySource(bucket, key string) string {
	esc := url.QueryEscape(bucket + "/" + key)
	return strings.ReplaceAll(strings.ReplaceAll(esc, "+", "%20"), "%2F", "/")
}
