#!/usr/bin/env bash
# Installs what the tests need and the machine lacks (Node, its packages ws and bun, a browser and certutil for it, curl, openssl, Python
# with three libraries, proxies), and runs all of them. Nothing is skipped, except what needs a network namespace if the machine permits none.
# The arguments go to go test: ./run.sh -run Chat
set -euo pipefail
cd "$(dirname "$0")"
PATH=$PATH:/usr/sbin:/sbin # where Debian has proxies, and only root looks
packages=()
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
command -v chromium >/dev/null || packages+=(chromium)
command -v certutil >/dev/null || packages+=(libnss3-tools)
command -v curl >/dev/null || packages+=(curl)
command -v openssl >/dev/null || packages+=(openssl)
command -v nginx >/dev/null || packages+=(nginx)
[ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || packages+=(libnginx-mod-stream)
command -v haproxy >/dev/null || packages+=(haproxy)
command -v tinyproxy >/dev/null || packages+=(tinyproxy)
command -v ip >/dev/null || packages+=(iproute2)
command -v nft >/dev/null || packages+=(nftables)
for library in websockets aiohttp autobahn; do
	/usr/bin/python3 -c "import $library" 2>/dev/null || packages+=("python3-$library")
done
if [ ${#packages[@]} -gt 0 ]; then
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}"
fi
if ! cmp -s node/package-lock.json node/node_modules/.installed; then
	(cd node && npm ci --no-progress && cp package-lock.json node_modules/.installed)
fi
export INTEROP_REQUIRE_ALL=1
if [ $# -gt 0 ]; then
	exec go test -race -count=1 "$@" ./...
fi
# Most of what these do is to inflate, bit by bit, what others have compressed: the race detector makes that take six times as long, and the
# package itself is tested with it elsewhere.
inflating='^Test(CompressingPeers|PeersThatCompress|Suite|SuiteOfPrograms)$'
go test -race -count=1 -skip "$inflating" ./...
go test -count=1 -run "$inflating" ./...
