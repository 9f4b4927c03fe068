# Subscribes, publishes from a second connection once that has a listener, prints what came.
set -eu
cli="redis-cli -h $1"
$cli --csv subscribe news >heard &
subscriber=$!
trap 'kill $subscriber 2>/dev/null || true' EXIT
tries=0
wait_a_moment() {
  tries=$((tries + 1))
  [ $tries -lt 200 ] || exit 1
  sleep 0.05
}
until [ "$($cli publish news hello)" -ge 1 ]; do wait_a_moment; done
until grep -q '"hello"' heard; do wait_a_moment; done
grep '"message"' heard | head -n 1
