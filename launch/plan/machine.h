// The machine that a plan is for.
#pragma once

#include <optional>
#include <string>

#include "configs/schema/machine.pb.h"
#include "configs/schema/run.pb.h"

namespace witan {

// A rate in units per second, not in billions of them.
inline double giga(double value) { return value * 1e9; }

// Peak FLOP/s of one rank for the matrix products of this precision; FLOAT64: half of float32.
double peak_flops(const configs::MachineConfig& machine,
                  configs::RuntimeConfig::Precision precision);

// `base` with what `witan bench limits --json` measured: ranks, rates, the share of the peak that
// matrix products reach, memory bandwidth, shared memory between ranks. Without a base the memory
// is that of this computer. UserError for a file that holds no limits.
configs::MachineConfig measured_machine(const std::string& path,
                                        const std::optional<configs::MachineConfig>& base);

}  // namespace witan
