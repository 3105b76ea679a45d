#!/usr/bin/env bash
# usage: mpirun.sh RANKS PROGRAM [ARG...]: any number of ranks, also as root and on fewer cores; one thread per rank.
set -eu
ranks=$1; shift
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec mpirun --bind-to none -n "$ranks" "$@"
