// Package web holds the page of the chat: plain HTML, CSS and JavaScript, which become part of the program.
package web

import "embed"

// Files are the page and what belongs to it, as they are: there is no build step.
//
//go:embed *.html *.css *.js *.svg
var Files embed.FS
