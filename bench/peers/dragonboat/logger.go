package main

import (
	"fmt"
	"log"

	"github.com/lni/dragonboat/v4/logger"
)

// packageLogger prints warnings and worse of one of the engine's packages to standard error.
type packageLogger struct {
	name string
}

func newLogger(name string) logger.ILogger {
	return packageLogger{name}
}

func (packageLogger) SetLevel(logger.LogLevel) {}
func (packageLogger) Debugf(string, ...any)    {}
func (packageLogger) Infof(string, ...any)     {}

func (l packageLogger) Warningf(format string, arguments ...any) {
	log.Printf("%s: warning: %s", l.name, fmt.Sprintf(format, arguments...))
}

func (l packageLogger) Errorf(format string, arguments ...any) {
	log.Printf("%s: error: %s", l.name, fmt.Sprintf(format, arguments...))
}

func (l packageLogger) Panicf(format string, arguments ...any) {
	log.Panicf("%s: %s", l.name, fmt.Sprintf(format, arguments...))
}
