// What every communicator demands of the arguments of a collective, in one place.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "core/tensor/tensor_view.h"
#include "parallel/communicator.h"

namespace witan {

// Each throws with the operation, the communicator's name, what was expected and what was found.
// The tensors lie in host memory or on `device`.
void check_place(const Communicator& group, const char* operation, Device device,
                 std::initializer_list<TensorView> views);
void check_all_to_all_v(const Communicator& group, const TensorView& from,
                        std::span<const std::int64_t> send_counts, const TensorView& to,
                        std::span<const std::int64_t> recv_counts);
void check_all_to_all(const Communicator& group, const TensorView& from, const TensorView& to);
// `whole` holds one part of the size of `part` for each rank.
void check_parts(const Communicator& group, const char* operation, const TensorView& whole,
                 const TensorView& part);
void check_all_gather_v(const Communicator& group, const TensorView& from, const TensorView& to,
                        std::span<const std::int64_t> counts);
void check_root(const Communicator& group, const char* operation, int root);

}  // namespace witan
