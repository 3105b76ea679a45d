#include "launch/stop_signal.h"

#include <csignal>
#include <cstdlib>
#include <initializer_list>

#include "parallel/watchdog.h"

namespace witan {
namespace {

constexpr double kGraceSeconds = 10.0;
volatile std::sig_atomic_t received = 0;

void on_signal(int signal) {
  if (received != 0) std::_Exit(128 + signal);  // no checkpoint: whoever asks twice wants out
  received = signal;
  // mpirun sends SIGTERM to the ranks that outlive a dead one: they must not wait for it.
  if (signal == SIGTERM) shorten_waits(kGraceSeconds);
}

}  // namespace

void install_stop_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGUSR1, SIGTERM, SIGINT}) sigaction(signal, &action, nullptr);
}

int stop_signal() { return received; }

}  // namespace witan
