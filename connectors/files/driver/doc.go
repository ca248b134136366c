// Package driver implements the files connector: lines of local files as a source
// and a sink.
//
// Source. Each file is a split, owned by the hash of its path; its position is the
// byte after the last line handed out, and its end the size it had when it was
// found. One goroutine per subtask reads ahead, bounded in bytes.
//
// Sink. Rows become lines of files in the folder .pending of the target; Prepare
// syncs and closes them, the committer renames them to their final names, which
// hold subtask and epoch. A rename that was done before is found done.
//
// Concurrency: Reader and Writer belong to their subtask's turn; what their
// goroutines share with it is behind a mutex. Durability: a file is durable when
// Prepare answers, and visible when Commit does.
package driver

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
)

// pendingFolder holds files that no epoch has committed. Sources skip names that
// begin with a dot or an underscore.
const pendingFolder = ".pending"

func hidden(name string) bool { return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") }

// cure says what helps against an error of the file system.
func cure(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return ": the disk is full: make room, the job then goes on from its last checkpoint"
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return ": give the worker's user the permission, or use another folder"
	case errors.Is(err, fs.ErrNotExist):
		return ": correct the path, or create it"
	}
	return ""
}
