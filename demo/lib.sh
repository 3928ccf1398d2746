# Shared by run.sh and stop.sh: where the demo lives. Everything it writes is
# under $state, except the root filesystem's cache.
state=${SALLY_DEMO:-/var/lib/sallyport-demo}
cache=${SALLY_CACHE:-/var/cache/sallyport}
port=${SALLY_DEMO_PORT:-8443}
uid=7701 # a bare number: no account is made on this computer
domain=corp.example
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
sally=$top/out/sally

fail() { echo "demo: $*" >&2; exit 1; }

# step TITLE COMMAND...: runs the command, shows its time; its output is shown
# only when it fails.
step() {
  local title=$1 start out; shift
  start=$(date +%s.%N)
  printf '  %-58s' "$title"
  if ! out=$("$@" 2>&1); then
    printf 'failed\n%s\n' "$out"
    fail "'$title' failed, for the reason above; logs are in $state. Remove everything with: make demo-stop"
  fi
  printf '%6.2f s\n' "$(echo "$(date +%s.%N) $start" | awk '{print $1-$2}')"
}

# waitfor SECONDS COMMAND...: until the command succeeds.
waitfor() {
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { "$@"; return 1; }
    sleep 0.05
  done
}

# alive NAME: whether the process whose pid and start time we wrote still runs.
# One that has ended and waits for its parent to notice does not.
alive() {
  local pid began
  [ -f "$state/$1.pid" ] || return 1
  read -r pid began <"$state/$1.pid"
  [ -n "$began" ] && [ "$(awk '$3 != "Z" {print $22}' "/proc/$pid/stat" 2>/dev/null)" = "$began" ]
}

# preconditions: whether a demo can be made here; asked before anything is installed,
# built or written.
preconditions() {
  [ "$(id -u)" = 0 ] || fail "run it as root: lab machines need namespaces and mounts"
  [[ $port =~ ^[1-9][0-9]{3,4}$ ]] && [ "$port" -ge 1024 ] && [ "$port" -le 65535 ] || fail "SALLY_DEMO_PORT must be a port from 1024 to 65535, got '$port'"
  [[ $state =~ ^/[A-Za-z0-9._/-]+$ ]] || fail "SALLY_DEMO must be an absolute path of letters, digits and . _ - /, got '$state'"
  if alive server && alive lab; then
    fail "the demo already runs; use it with: . $state/env   or remove it with: make demo-stop"
  fi
  [ ! -e "$state" ] || fail "$state is left from another run; remove it with: make demo-stop"
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    fail "something already listens on 127.0.0.1:$port; choose another port: make demo SALLY_DEMO_PORT=9443"
  fi
  mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ] || fail "the cache $cache cannot be written; choose another folder: make demo CACHE=/path"
}

# start NAME COMMAND...: in the background, in a session of its own.
start() {
  local name=$1; shift
  setsid "$@" >>"$state/$name.log" 2>&1 </dev/null &
  local pid=$!
  echo "$pid $(awk '{print $22}' /proc/$pid/stat)" >"$state/$name.pid"
}
