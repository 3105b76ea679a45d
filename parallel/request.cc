#include <cstdio>
#include <cstdlib>
#include <exception>

#include "parallel/communicator.h"

namespace witan {

Request& Request::operator=(Request&& other) noexcept {
  if (this != &other) {
    check_finished();
    impl_ = std::exchange(other.impl_, nullptr);
  }
  return *this;
}

Request::~Request() { check_finished(); }

void Request::check_finished() const noexcept {
  // On the way to main() with an error nobody can wait: the other ranks may never arrive.
  if (impl_ == nullptr || std::uncaught_exceptions() > 0) return;
  std::fputs("witan: a collective operation was not waited for before its request ended\n", stderr);
  std::abort();
}

void Request::wait() {
  if (impl_ == nullptr) return;
  Impl* impl = std::exchange(impl_, nullptr);
  impl->wait();
  impl->release();
}

void Request::wait_on(const Context& ctx) {
  if (impl_ == nullptr) return;
  Impl* impl = std::exchange(impl_, nullptr);
  impl->wait_on(ctx);
  impl->release();
}

}  // namespace witan
