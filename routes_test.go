package websocket

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// routesNamed answers with its name, so that a test can tell handlers from each other.
func routesNamed(name string) RouteHandler {
	return func(context.Context, *Request) Response { return Response{Message: name} }
}

// routesFound is the name of the handler for a request, "" where there is none, and its parameters.
func routesFound(r *routes, method, path string) (name string, params targetParam) {
	handler, params := r.find(method, path)
	if handler == nil {
		return "", nil
	}
	return handler(context.Background(), nil).Message, params
}

func TestRoutesAdd(t *testing.T) {
	handler := routesNamed("x")
	for _, c := range []struct {
		name    string
		method  string
		target  string
		handler RouteHandler
		is      error // nil: any
	}{
		{name: "an empty method", target: "/", handler: handler},
		{name: "an empty target", method: "GET", handler: handler},
		{name: "no handler", method: "GET", target: "/"},
		{"a method that is none of the five", "HEAD", "/", handler, ErrRouteInvMethod},
		{"a method with a blank", "GET ", "/", handler, ErrRouteInvMethod},
		{"a target without a leading slash", "GET", "users", handler, ErrRouteInvTarget},
		{"a parameter without a leading slash", "GET", ":id", handler, ErrRouteInvTarget},
		{"two parameter names at one place", "GET", "/users/:name", handler, ErrRouteDupParam},
		{"two parameter names at one place in the middle", "GET", "/users/:name/more", handler, ErrRouteDupParam},
		{"two parameter names at one place, empty segments apart", "GET", "//users//:name", handler, ErrRouteDupParam},
	} {
		t.Run(c.name+" is refused", func(t *testing.T) {
			var r routes
			require.NoError(t, r.add("GET", "/users/:id", routesNamed("kept")))
			err := r.add(c.method, c.target, c.handler)
			require.Error(t, err)
			if c.is != nil {
				assert.ErrorIs(t, err, c.is)
			}
			name, params := routesFound(&r, "GET", "/users/7")
			assert.Equal(t, "kept", name)
			assert.Equal(t, targetParam{"id": "7"}, params)
		})
	}

	t.Run("the five methods are taken in any case", func(t *testing.T) {
		var r routes
		for _, method := range []string{"DELETE", "GET", "PATCH", "POST", "PUT"} {
			for _, spelled := range []string{method, strings.ToLower(method), method[:1] + strings.ToLower(method[1:])} {
				require.NoError(t, r.add(spelled, "/a", routesNamed(method)))
				name, _ := routesFound(&r, spelled, "/a")
				assert.Equal(t, method, name)
			}
		}
	})
	t.Run("each method has targets of its own", func(t *testing.T) {
		var r routes
		require.NoError(t, r.add("GET", "/a/:x", routesNamed("get")))
		require.NoError(t, r.add("PUT", "/a/:y", routesNamed("put"))) // another parameter name is fine
		name, params := routesFound(&r, "PUT", "/a/1")
		assert.Equal(t, "put", name)
		assert.Equal(t, targetParam{"y": "1"}, params)
		name, _ = routesFound(&r, "POST", "/a/1")
		assert.Empty(t, name)
	})
	t.Run("a later registration takes the place of an earlier one", func(t *testing.T) {
		var r routes
		require.NoError(t, r.add("GET", "/a/:x", routesNamed("one")))
		require.NoError(t, r.add("GET", "//a//:x/", routesNamed("two")))
		name, _ := routesFound(&r, "GET", "/a/1")
		assert.Equal(t, "two", name)
	})
}

func TestRoutesFind(t *testing.T) {
	var r routes
	for _, target := range []string{
		"/", "/users", "/users/:id", "/users/me", "/users/:id/posts/:post", "/users/me/settings",
		"//double//slash/", "/:any/fixed", "/deep/:a/:b/:c", "/no/handler/above", "/Case",
	} {
		require.NoError(t, r.add("GET", target, routesNamed(target)))
	}
	for _, c := range []struct {
		name   string
		path   string
		want   string // "": nothing is found
		params targetParam
	}{
		{"the root", "/", "/", targetParam{}},
		{"two slashes are the root", "//", "/", targetParam{}},
		{"a literal", "/users", "/users", targetParam{}},
		{"a trailing slash", "/users/", "/users", targetParam{}},
		{"a parameter", "/users/7", "/users/:id", targetParam{"id": "7"}},
		{"a parameter with a trailing slash", "/users/7/", "/users/:id", targetParam{"id": "7"}},
		{"a literal wins over a parameter", "/users/me", "/users/me", targetParam{}},
		{"a literal wins without going back", "/users/me/posts/1", "", nil},
		{"a literal's own child", "/users/me/settings", "/users/me/settings", targetParam{}},
		{"two parameters", "/users/7/posts/x", "/users/:id/posts/:post", targetParam{"id": "7", "post": "x"}},
		{"three parameters in a row", "/deep/1/2/3", "/deep/:a/:b/:c", targetParam{"a": "1", "b": "2", "c": "3"}},
		{"a first segment that is a parameter", "/what/fixed", "/:any/fixed", targetParam{"any": "what"}},
		{"a literal first segment hides the parameter", "/users/fixed", "/users/:id", targetParam{"id": "fixed"}},
		{"empty segments are ignored when registering", "/double/slash", "//double//slash/", targetParam{}},
		{"a value that looks like a parameter", "/users/:id", "/users/:id", targetParam{"id": ":id"}},
		{"a value stays percent-encoded", "/users/%2F", "/users/:id", targetParam{"id": "%2F"}},
		{"a value that is not ASCII", "/users/é\x00", "/users/:id", targetParam{"id": "é\x00"}},
		{"an empty value is none", "/users//posts/x", "", nil},
		{"a node without a handler", "/no/handler", "", nil},
		{"a target that stops at a parameter without handler", "/deep/1/2", "", nil},
		{"a target that goes on behind its route", "/users/7/posts/x/y", "", nil},
		{"a path in another case", "/case", "", nil},
		{"an unknown path", "/nowhere", "", nil},
		{"no leading slash", "users", "", nil},
		{"an empty path", "", "", nil},
		{"a star", "*", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, params := routesFound(&r, "GET", c.path)
			assert.Equal(t, c.want, got)
			assert.Equal(t, c.params, params)
		})
	}

	t.Run("the zero value finds nothing", func(t *testing.T) {
		var r routes
		name, _ := routesFound(&r, "GET", "/")
		assert.Empty(t, name)
	})
	t.Run("an unknown or empty method finds nothing", func(t *testing.T) {
		for _, method := range []string{"", "HEAD", "GET "} {
			name, _ := routesFound(&r, method, "/")
			assert.Empty(t, name)
		}
	})
	t.Run("a path of 100,000 segments finds nothing", func(t *testing.T) {
		name, _ := routesFound(&r, "GET", strings.Repeat("/deep", 100_000))
		assert.Empty(t, name)
	})
	t.Run("parameters belong to who asked", func(t *testing.T) {
		_, one := routesFound(&r, "GET", "/users/1")
		_, two := routesFound(&r, "GET", "/users/2")
		one["id"] = "changed"
		assert.Equal(t, targetParam{"id": "2"}, two)
	})
}

func TestRoutesClone(t *testing.T) {
	var r routes
	require.NoError(t, r.add("GET", "/a/:x/b", routesNamed("old")))
	c := r.clone()
	for _, target := range []string{"/a/:x/b", "/a/:x/c", "/a/:x", "/a/literal", "/new", "/a/:x/b/:y"} {
		require.NoError(t, c.add("GET", target, routesNamed("new")))
	}
	require.NoError(t, c.add("PUT", "/a", routesNamed("new")))

	t.Run("what is registered in a clone is not in the original", func(t *testing.T) {
		name, _ := routesFound(&r, "GET", "/a/1/b")
		assert.Equal(t, "old", name)
		name, _ = routesFound(&r, "GET", "/a/literal/b")
		assert.Equal(t, "old", name)
		for _, path := range []string{"/a/1/c", "/a/1", "/a/literal", "/new", "/a/1/b/2"} {
			name, _ = routesFound(&r, "GET", path)
			assert.Empty(t, name, path)
		}
		name, _ = routesFound(&r, "PUT", "/a")
		assert.Empty(t, name)
	})
	t.Run("a clone has what the original had, and what is new", func(t *testing.T) {
		for _, path := range []string{"/a/1/b", "/a/1/c", "/a/1", "/a/literal", "/new", "/a/1/b/2"} {
			name, _ := routesFound(c, "GET", path)
			assert.Equal(t, "new", name, path)
		}
	})
	t.Run("what is registered in the original is not in a clone", func(t *testing.T) {
		require.NoError(t, r.add("GET", "/late", routesNamed("late")))
		name, _ := routesFound(c, "GET", "/late")
		assert.Empty(t, name)
	})
	t.Run("a clone of nothing can be used", func(t *testing.T) {
		c := new(routes).clone()
		require.NoError(t, c.add("GET", "/", routesNamed("x")))
		name, _ := routesFound(c, "GET", "/")
		assert.Equal(t, "x", name)
	})
	t.Run("many clones in a row keep all that was registered", func(t *testing.T) {
		c := new(routes)
		for i := range 50 {
			c = c.clone()
			require.NoError(t, c.add("GET", fmt.Sprintf("/%d/:x", i), routesNamed(fmt.Sprint(i))))
		}
		for i := range 50 {
			name, _ := routesFound(c, "GET", fmt.Sprintf("/%d/x", i))
			assert.Equal(t, fmt.Sprint(i), name)
		}
	})
}
