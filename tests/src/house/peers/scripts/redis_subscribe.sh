# Subscribes, publishes from a second connection once that has a listener, prints what came.
set -eu
cli="redis-cli -h $1"
$cli --csv subscribe news >heard &
subscriber=$!
trap 'kill $subscriber 2>/dev/null || true' EXIT
tries=0
until [ "$($cli publish news hello)" -ge 1 ]; do
  tries=$((tries + 1)) && [ $tries -lt 100 ] && sleep 0.05
done
until grep -q '"hello"' heard; do
  tries=$((tries + 1)) && [ $tries -lt 200 ] && sleep 0.05
done
grep '"message"' heard | head -n 1
