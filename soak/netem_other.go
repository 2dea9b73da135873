//go:build !linux

package main

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
)

func runInNamespace(context.Context, []string, io.Writer) (code int, err error) {
	return 0, errors.ErrUnsupported
}

func startNetem(context.Context) error { return errors.ErrUnsupported }

func changeWeather(context.Context, *rand.Rand, func(text string)) {}
