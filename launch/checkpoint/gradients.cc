// All gradients in one file, under the weights' names.
#include <memory>

#include "core/base/error.h"
#include "core/tensor/host_twin.h"
#include "launch/checkpoint/agree.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/hf_tensors.h"
#include "launch/checkpoint/safetensors.h"

namespace witan {
namespace {

// The whole gradient on the first rank of `group`; [0, ...] on the others. Collective.
TensorView gather_experts(const TensorView& own, std::int64_t experts, Communicator& group,
                          Tensor& memory) {
  const bool first = group.rank() == 0;
  const auto ranks = static_cast<std::size_t>(group.size());
  std::vector<std::int64_t> send(ranks, 0), receive(ranks, first ? own.rows() : 0);
  send[0] = own.rows();
  memory = Tensor(own.shape.with_rows(first ? experts : 0), own.dtype);
  group.all_to_all_v(own, send, memory, receive).wait();
  return memory;
}

template <class T>
std::vector<float> scaled(const TensorView& gradient, std::int64_t begin, std::int64_t count,
                          double scale) {
  std::vector<float> values(static_cast<std::size_t>(count));
  const T* data = gradient.as<T>() + begin;
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(static_cast<double>(data[i]) * scale);
  }
  return values;
}

void write_tensor(SafetensorsWriter& writer, const TensorView& gradient, std::int64_t begin,
                  std::int64_t count, double scale) {
  dispatch_float(gradient.dtype, "gradients", [&](auto zero) {
    const std::vector<float> values = scaled<decltype(zero)>(gradient, begin, count, scale);
    writer.write(values.data(), values.size() * sizeof(float));
  });
}

}  // namespace

void save_gradients(const std::string& path, const ParamStore& params, double scale,
                    const Mesh& mesh) {
  const ParamTable& table = params.table();
  const bool writes = mesh.world_rank() == 0;
  Attempt attempt;
  std::unique_ptr<SafetensorsWriter> writer;
  if (writes) {
    attempt([&] {
      std::vector<StTensor> tensors;
      for (const HfTensor& tensor : hf_tensors_of(table)) {
        tensors.push_back({tensor.name, StDType::kF32, tensor.shape});
      }
      writer = std::make_unique<SafetensorsWriter>(path, std::move(tensors));
    });
  }
  for (int id = 0; id < table.size() && mesh.replica().rank() == 0; ++id) {
    const ParamInfo& info = table[id];
    if (!info.trained()) continue;
    const bool expert = info.role == ParamRole::kExpert;
    const HostTwin twin(params.context(), params.grad(id));
    const TensorView own = twin.read().view();
    Tensor memory;
    const TensorView whole =
        expert ? gather_experts(own, info.shape[0], mesh.expert(), memory) : own;
    if (!writes) continue;
    attempt([&] {
      for (const HfTensor& tensor : hf_tensors_of(table, id, 0, expert ? info.shape[0] : 0)) {
        write_tensor(*writer, whole, local_offset(table, tensor, 0), tensor.elements, scale);
      }
    });
  }
  if (writes) attempt([&] { writer->finish(); });
  attempt.throw_together(mesh.world(), "cannot write the gradients");
}

}  // namespace witan
