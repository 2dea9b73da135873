# A WebSocket service behind Varnish, with "varnishd -a 127.0.0.1:8080 -p pipe_timeout=60 -f": tested with other addresses.
vcl 4.1;

backend service {
	.host = "127.0.0.1";
	.port = "9090";
	# With .proxy_header = 1 or 2 Varnish tells the client's address in a PROXY protocol header. The service sets
	# ServerOptions.ProxyProtocol to the addresses of its proxies.
	.probe = {
		.url = "/status";
		.initial = 8; # it is there until a check says otherwise
	}
}

sub vcl_recv {
	# Varnish has appended the address of the client to what the client says of itself.
	set req.http.X-Forwarded-For = client.ip;
	if (req.http.Upgrade ~ "(?i)^websocket$") {
		return (pipe); # bytes go to and fro, until pipe_timeout passes without any
	}
	return (pass);
}

sub vcl_pipe {
	set bereq.http.Upgrade = req.http.Upgrade;
	set bereq.http.Connection = "upgrade";
}
