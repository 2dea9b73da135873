package websocket

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
)

// routes finds the handler of a request. It does not change while it is in use: Server registers handlers in a clone.
type routes struct {
	byMethod map[string]*route
}

// route is a node of the tree of registered targets: one segment of a path.
type route struct {
	handler  RouteHandler // nil if no target ends here
	literals map[string]*route
	param    *route // nil if no parameter follows
	name     string // of that parameter
}

// add registers a handler.
func (r *routes) add(method, target string, handler RouteHandler) error {
	if err := checkRoute(method, target, handler); err != nil {
		return fmt.Errorf("RegisterTextHandler: %w", err)
	}
	upper := strings.ToUpper(method)
	node := r.byMethod[upper]
	if node == nil {
		node = new(route)
		if r.byMethod == nil {
			r.byMethod = make(map[string]*route)
		}
		r.byMethod[upper] = node
	}
	for segment := range strings.SplitSeq(target, "/") {
		if segment == "" {
			continue
		}
		var err error
		if node, err = node.child(segment); err != nil {
			return fmt.Errorf("RegisterTextHandler: %s %s: %w", method, target, err)
		}
	}
	node.handler = handler
	return nil
}

// checkRoute returns an error for what cannot be registered, whatever else has been.
func checkRoute(method, target string, handler RouteHandler) error {
	switch {
	case method == "":
		return errors.New("empty method")
	case target == "":
		return errors.New("empty target")
	case handler == nil:
		return errors.New("empty handler")
	}
	switch strings.ToUpper(method) {
	case http.MethodDelete, http.MethodGet, http.MethodPatch, http.MethodPost, http.MethodPut:
	default:
		return fmt.Errorf("%s %s: %w", method, target, ErrRouteInvMethod)
	}
	if target[0] != '/' {
		return fmt.Errorf("%s %s: %w", method, target, ErrRouteInvTarget)
	}
	return nil
}

// child returns the node for the next segment of a target, and makes it if there is none.
func (node *route) child(segment string) (*route, error) {
	if name, ok := strings.CutPrefix(segment, ":"); ok {
		if node.param == nil {
			node.param, node.name = new(route), name
		} else if node.name != name {
			return nil, ErrRouteDupParam
		}
		return node.param, nil
	}
	next := node.literals[segment]
	if next == nil {
		if node.literals == nil {
			node.literals = make(map[string]*route)
		}
		next = new(route)
		node.literals[segment] = next
	}
	return next, nil
}

// find returns the handler for a request, nil if there is none. At each segment a literal takes precedence over a parameter;
// there is no way back.
func (r *routes) find(method, path string) (handler RouteHandler, params targetParam) {
	node := r.byMethod[strings.ToUpper(method)]
	if node == nil || !strings.HasPrefix(path, "/") {
		return nil, nil
	}
	params = make(targetParam)
	if path = strings.TrimSuffix(path[1:], "/"); path == "" {
		return node.handler, params
	}
	for segment := range strings.SplitSeq(path, "/") {
		if next := node.literals[segment]; next != nil {
			node = next
		} else if node.param != nil && segment != "" {
			params[node.name] = segment
			node = node.param
		} else {
			return nil, nil
		}
	}
	return node.handler, params
}

// clone returns a copy that can be changed.
func (r *routes) clone() *routes {
	c := &routes{byMethod: maps.Clone(r.byMethod)}
	for method, node := range c.byMethod {
		c.byMethod[method] = node.clone()
	}
	return c
}

func (node *route) clone() *route {
	if node == nil {
		return nil
	}
	c := *node
	c.param = node.param.clone()
	c.literals = maps.Clone(node.literals)
	for segment, next := range c.literals {
		c.literals[segment] = next.clone()
	}
	return &c
}
