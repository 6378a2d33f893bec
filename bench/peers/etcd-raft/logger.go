package main

import (
	stdlog "log"
	"os"

	"go.etcd.io/raft/v3"
)

// logger prints warnings and worse. The library informs of every append to an empty unstable log.
type logger struct {
	*raft.DefaultLogger
}

func newLogger() logger {
	return logger{&raft.DefaultLogger{Logger: stdlog.New(os.Stderr, "raft: ", stdlog.LstdFlags)}}
}

func (logger) Info(...any)          {}
func (logger) Infof(string, ...any) {}
