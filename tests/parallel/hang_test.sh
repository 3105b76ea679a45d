#!/usr/bin/env bash
# usage: hang_test.sh PROGRAM: whatever happens to one rank, the others end within seconds, with a message and a non-zero code.
set -u
program=$1
mpirun=$(dirname "$0")/../support/mpirun.sh
failed=0
kill_after=1  # s between SIGTERM and SIGKILL: mpirun's default. It sleeps twice as long even if the ranks end at once.

# expect HOW WATCHDOG_SECONDS CODE PATTERN: code "any" is any but 0.
expect() {
  local start=$SECONDS output code
  output=$(timeout 60 "$mpirun" 3 --mca odls_base_sigkill_timeout "$kill_after" "$program" "$1" "$2" 2>&1)
  code=$?
  local took=$((SECONDS - start))
  echo "--- $1: exit code $code after $took s"
  echo "$output"
  if [ "$took" -gt 20 ]; then echo "FAILED: took $took s"; failed=1; fi
  if [ "$3" = any ]; then
    if [ $code -eq 0 ] || [ $code -eq 124 ]; then echo "FAILED: exit code $code"; failed=1; fi
  elif [ $code -ne "$3" ]; then
    echo "FAILED: exit code $code, expected $3"; failed=1
  fi
  if [ -n "$4" ] && ! grep -q -- "$4" <<< "$output"; then echo "FAILED: no message like: $4"; failed=1; fi
}

expect none 30 0 ""
# A rank that never joins: the watchdog names the operation.
expect sleep 1 3 "watchdog: waited 1.* s in all_to_all_v on communicator 'world' (rank [02] of 3, operation 6, sends 2 2 2, receives 2 2 2)"
# A rank that is killed: mpirun says so and ends the others, long before the watchdog's limit.
expect kill 300 any "signal 9"
# The others handle the signal that mpirun sends them: they give up waiting for the dead rank before mpirun kills them.
kill_after=3 expect "kill, SIGTERM is handled" 300 any "watchdog: waited"
# The same where ranks wait for each other's memory instead of MPI.
kill_after=1 expect "none in windows" 30 0 ""
kill_after=1 expect "sleep in windows" 1 3 "watchdog: waited 1.* s in dispatch on communicator 'world' (rank [02] of 3, operation 6)"
kill_after=3 expect "kill in windows, SIGTERM is handled" 300 any "watchdog: waited"
# A rank that stops with an error takes the others along.
expect throw 300 1 "this rank cannot go on"
exit $failed
