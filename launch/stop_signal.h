// Graceful stop: SIGUSR1, SIGTERM and SIGINT ask for it; a second one ends the process at once.
#pragma once

namespace witan {

void install_stop_signals();

// The signal that asked this rank to stop; 0: none. The trainer agrees on it over all ranks, once
// per step.
int stop_signal();

}  // namespace witan
