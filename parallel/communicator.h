// Collectives of a group of ranks, typed and asynchronous. Raw MPI and NCCL calls stand only in
// their communicator's file.
//
// Every rank of the group issues the same operations in the same order. An operation is enqueued on
// the communicator's stream (on the CPU: started at once) and returns a Request; input and output
// spans belong to the operation until wait(). Several requests may be in flight; they are waited
// for in any order. Work of a device can go on without the host: wait_on().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan {

// Handle of an operation in flight; move-only; must be waited for before it is destroyed: anything
// else ends the program, but for unwinding by an exception, which leaves the operation behind.
class Request {
 public:
  // Kept and re-used by its communicator, so that operations allocate nothing.
  class Impl {
   public:
    virtual void wait() = 0;  // throws on error; the watchdog's limit ends the run
    virtual void wait_on(const Context&) { wait(); }
    // The handle is done with it; only after one of the waits returned.
    virtual void release() noexcept = 0;

   protected:
    ~Impl() = default;
  };
  Request() = default;
  explicit Request(Impl* impl) : impl_(impl) {}
  Request(Request&& other) noexcept : impl_(std::exchange(other.impl_, nullptr)) {}
  Request& operator=(Request&& other) noexcept;
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;
  ~Request();

  bool active() const { return impl_ != nullptr; }
  void wait();
  // What is enqueued on ctx.stream from now on starts after the operation, to which the spans
  // belong until then. The host does not wait, but where it carries the operation itself (MPI).
  // Errors, and an operation that never ends, end the run from a thread that watches.
  void wait_on(const Context& ctx);

 private:
  void check_finished() const noexcept;
  Impl* impl_ = nullptr;
};

enum class ReduceOp { kSum, kMax, kMin };

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual const std::string& name() const = 0;  // "world", "expert", "replica": for messages

  // `from` holds sum(send_counts) rows, by destination; `to` receives sum(recv_counts) rows, by
  // source. Rows are the first axis; zero counts are ordinary. Counts are in rows.
  virtual Request all_to_all_v(const TensorView& from, std::span<const std::int64_t> send_counts,
                               const TensorView& to, std::span<const std::int64_t> recv_counts) = 0;
  // Row r of `from` [size, ...] goes to rank r; row r of `to` comes from it.
  virtual Request all_to_all(const TensorView& from, const TensorView& to) = 0;
  // In place; every rank gets the same bits.
  virtual Request all_reduce(const TensorView& data, ReduceOp op) = 0;
  // Rank r keeps elements [r n, (r + 1) n) of the sum in `to` [n]; `from` [size n]. to may be that
  // part of from. The sum is taken in the order of the ranks.
  virtual Request reduce_scatter_sum(const TensorView& from, const TensorView& to) = 0;
  // Rank `root` keeps the sum, in place; elsewhere `data` stays as it is.
  virtual Request reduce_sum(const TensorView& data, int root) = 0;
  // `from` [n] of every rank into `to` [size n]; from may be this rank's part of to.
  virtual Request all_gather(const TensorView& from, const TensorView& to) = 0;
  // counts [size] in rows; `to` holds their sum.
  virtual Request all_gather_v(const TensorView& from, const TensorView& to,
                               std::span<const std::int64_t> counts) = 0;
  virtual Request broadcast(const TensorView& data, int root) = 0;
  virtual void barrier() = 0;

  // Waits for something that other ranks of this group do without the communicator, in memory that
  // they share: looks at `ready` again and again, moves other operations on meanwhile, and counts,
  // reports and ends like the wait for a collective. `number` of this operation: what ranks
  // compare.
  virtual void wait_until(const char* operation, std::int64_t number,
                          const std::function<bool()>& ready) = 0;

  // Bytes of any kind from root to all, resized by the receivers (config, file lists).
  virtual void broadcast_bytes(std::string& bytes, int root) = 0;
  // Concatenation by rank of every rank's bytes, at root only (others get an empty string). For
  // small things.
  virtual std::string gather_bytes(const std::string& bytes, int root) = 0;

  // Seconds that the host of this rank has spent waiting in wait() and in blocking calls since the
  // last call; then 0.
  virtual double take_wait_seconds() = 0;
};

// One rank: copies, of tensors in host memory or on ctx.device (then enqueued on ctx.stream).
std::unique_ptr<Communicator> make_self_communicator(std::string name = "self",
                                                     const Context& ctx = {});

}  // namespace witan
