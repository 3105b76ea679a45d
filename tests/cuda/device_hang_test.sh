#!/usr/bin/env bash
# usage: device_hang_test.sh PROGRAM: an operation that was left to the device and never ends is named, and ends every rank.
set -u
program=$1
mpirun=$(dirname "$0")/../support/mpirun.sh

start=$SECONDS
output=$(timeout 100 "$mpirun" 2 "$program" sleep 1 2>&1)
code=$?
took=$((SECONDS - start))
echo "$output"
if [ $code -ne 3 ]; then echo "FAILED: exit code $code after $took s"; exit 1; fi
expected="watchdog: waited [0-9.]* s in all_reduce on communicator 'expert' (rank 0 of 2, operation 4, sends 5)"
if ! grep -q -- "$expected" <<< "$output"; then echo "FAILED: no message like: $expected"; exit 1; fi

# Operations that are over, which the host has had no occasion to notice, are not taken for open ones.
timeout 100 "$mpirun" 2 "$program" pause 1 || { echo "FAILED: exit code $? after a pause"; exit 1; }
