#include "launch/logits_run.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "core/base/error.h"
#include "core/tensor/host_twin.h"
#include "core/tensor/tensor.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/safetensors.h"
#include "launch/data/batch_builder.h"

namespace witan {
namespace {

template <class T>
void copy_ids(const std::string& path, const std::byte* data, std::int64_t seq_len,
              std::int64_t vocab, std::vector<std::int32_t>& ids) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    T id = 0;
    std::memcpy(&id, data + i * sizeof(T), sizeof(T));
    if (id < 0 || id >= vocab) {
      throw_user_error(path, ": input_ids[", static_cast<std::int64_t>(i) / seq_len, ", ",
                       static_cast<std::int64_t>(i) % seq_len, "] is ", id,
                       "; the model has tokens 0 to ", vocab - 1);
    }
    ids[i] = static_cast<std::int32_t>(id);
  }
}

// Sequences per rank and forward pass: about 8192 tokens, and logits of at most 256 MB.
std::int64_t micro_batch_of(const InputIds& input, std::int64_t vocab, int ranks) {
  constexpr std::int64_t kTokens = 8192;
  constexpr std::int64_t kLogits = std::int64_t{1} << 26;
  const std::int64_t share = (input.sequences + ranks - 1) / ranks;
  const std::int64_t fit = std::min(kTokens, kLogits / vocab) / input.seq_len;
  return std::clamp<std::int64_t>(fit, 1, share);
}

// Receives the logits of every round in the order of the sequences.
class LogitsFile {
 public:
  LogitsFile(const InputIds& input, std::int64_t vocab, const LogitsFiles& files,
             Communicator& world)
      : world_(world), seq_len_(input.seq_len), vocab_(vocab) {
    if (world.rank() != 0) return;
    writer_ = std::make_unique<SafetensorsWriter>(
        files.logits,
        std::vector<StTensor>{{"logits", StDType::kF32, {input.sequences, seq_len_, vocab_}},
                              {"loss", StDType::kF32, {1}}},
        std::map<std::string, std::string>{{"format", "pt"}, {"tokens", files.tokens}});
  }

  // `logits` [rows of this rank, vocab]; `sequences` of each rank.
  void write(const TensorView& logits, const std::vector<std::int64_t>& sequences) {
    std::vector<std::int64_t> send(sequences.size(), 0), receive(sequences.size(), 0);
    send[0] = logits.rows();
    std::int64_t rows = 0;
    for (std::size_t rank = 0; world_.rank() == 0 && rank < sequences.size(); ++rank) {
      receive[rank] = sequences[rank] * seq_len_;
      rows += receive[rank];
    }
    const Tensor all({rows, vocab_}, logits.dtype);
    world_.all_to_all_v(logits, send, all, receive).wait();
    if (writer_ == nullptr) return;
    dispatch_float(logits.dtype, "logits", [&](auto zero) {
      const auto* z = all.as<decltype(zero)>();
      floats_.assign(z, z + all.view().size());
    });
    writer_->write(floats_.data(), floats_.size() * sizeof(float));
  }

  void finish(double loss) {
    if (writer_ == nullptr) return;
    const auto value = static_cast<float>(loss);
    writer_->write(&value, sizeof value);
    writer_->finish();
  }

 private:
  Communicator& world_;
  std::int64_t seq_len_, vocab_;
  std::unique_ptr<SafetensorsWriter> writer_;
  std::vector<float> floats_;
};

// Sequences [begin, begin + count): every position, the next token as target.
void fill_batch(const InputIds& input, std::int64_t begin, std::int64_t count,
                BatchBuffers& buffers) {
  const auto seq_len = static_cast<std::size_t>(input.seq_len);
  build_batch(
      configs::DataConfig(), input.seq_len, -1, count, begin,
      [&](std::int64_t i, std::span<std::int32_t> window) {
        const auto* ids = input.ids.data() + static_cast<std::size_t>(begin + i) * seq_len;
        std::copy(ids, ids + seq_len, window.begin());
        window[seq_len] = -1;
        return input.tag;
      },
      buffers);
}

// Gradients of the sum of all losses, complete on every rank that holds the tensor.
void sum_gradients(const ParamStore& params, const Mesh& mesh) {
  Request dense = mesh.world().all_reduce(params.flat_grads(ParamGroup::kDense), ReduceOp::kSum);
  Request experts =
      mesh.replica().all_reduce(params.flat_grads(ParamGroup::kExpert), ReduceOp::kSum);
  dense.wait();
  experts.wait();
}

}  // namespace

InputIds read_input_ids(const std::string& path, std::int64_t vocab) {
  const SafetensorsReader file(path);
  const StTensor* tensor = file.find("input_ids");
  if (tensor == nullptr) throw_user_error(path, ": holds no tensor \"input_ids\"");
  for (const char* name : {"attention_mask", "position_ids", "labels"}) {
    if (file.find(name) != nullptr) {
      throw_user_error(path, ": holds \"", name,
                       "\", which would be ignored; leave it out: there is no padding, ",
                       "positions count from 0, and the targets are the next tokens");
    }
  }
  if (tensor->dtype != StDType::kI64 && tensor->dtype != StDType::kI32) {
    throw_user_error(path, ": input_ids: expected dtype I64 or I32, found ",
                     name_of(tensor->dtype));
  }
  if (tensor->shape.size() != 2 || tensor->shape[0] < 1 || tensor->shape[1] < 2) {
    std::string shape;
    for (const std::int64_t extent : tensor->shape)
      shape += (shape.empty() ? "" : ", ") + std::to_string(extent);
    throw_user_error(path,
                     ": input_ids: expected shape [sequences, tokens] with at least 1 sequence of "
                     "2 tokens, found [",
                     shape, "]");
  }
  InputIds input{tensor->shape[0], tensor->shape[1], {}, 0};
  input.ids.resize(static_cast<std::size_t>(input.sequences * input.seq_len));
  if (tensor->dtype == StDType::kI64) {
    copy_ids<std::int64_t>(path, file.data(*tensor), input.seq_len, vocab, input.ids);
  } else {
    copy_ids<std::int32_t>(path, file.data(*tensor), input.seq_len, vocab, input.ids);
  }
  return input;
}

double compute_logits(Engine& engine, const InputIds& input, const LogitsFiles& files) {
  Transformer& model = engine.model();
  Communicator& world = engine.mesh().world();
  const bool gradients = !files.gradients.empty();
  const std::int64_t vocab = model.dims().vocab;
  const std::int64_t micro_batch = micro_batch_of(input, vocab, world.size());
  const Context& ctx = engine.runtime().ctx;
  const Tensor logits({micro_batch * input.seq_len, vocab}, model.dtype(), ctx.device);
  const Tensor loss({micro_batch * input.seq_len}, model.dtype(), ctx.device);
  const HostTwin host_logits(ctx, logits);
  LogitsFile output(input, vocab, files, world);
  BatchBuffers buffers;
  double loss_sum = 0.0;
  for (std::int64_t base = 0; base < input.sequences; base += micro_batch * world.size()) {
    std::vector<std::int64_t> begins, counts;
    for (int rank = 0; rank < world.size(); ++rank) {
      begins.push_back(std::min(input.sequences, base + rank * micro_batch));
      counts.push_back(std::min(input.sequences - begins.back(), micro_batch));
    }
    const auto own = static_cast<std::size_t>(world.rank());
    fill_batch(input, begins[own], counts[own], buffers);
    place_batch(ctx, buffers);
    const std::int64_t rows = buffers.batch.rows();
    if (gradients) {
      model.forward_train(buffers.batch);
    } else {
      model.forward(buffers.batch);
    }
    model.logits(0, rows, logits.view().slice_rows(0, rows));
    output.write(host_logits.read().view().slice_rows(0, rows), counts);
    loss_sum += gradients ? model.backward(buffers.batch, 0.0)
                          : model.losses(buffers.batch, loss.view().slice_rows(0, rows));
  }
  world.all_reduce(view_of(&loss_sum, {1}), ReduceOp::kSum).wait();
  const double targets = static_cast<double>(input.sequences * (input.seq_len - 1));
  output.finish(loss_sum / targets);
  if (gradients) {
    sum_gradients(engine.params(), engine.mesh());
    save_gradients(files.gradients, engine.params(), 1.0 / targets, engine.mesh());
  }
  return loss_sum / targets;
}

void remove_balancing_losses(configs::ModelConfig& model) {
  if (!model.has_moe()) return;
  auto& balance = *model.mutable_moe()->mutable_balance();
  for (int i = balance.size() - 1; i >= 0; --i) {
    if (!balance[i].has_expert_bias()) balance.DeleteSubrange(i, 1);
  }
}

}  // namespace witan
