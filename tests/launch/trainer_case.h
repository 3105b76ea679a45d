// Small training runs for the tests of the trainer: a dataset on disk, a config, and everything
// from mesh to trainer in one object. Under mpirun every rank also makes the same run alone, on
// Mesh::self(), to compare with.
#pragma once

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "core/base/rng.h"
#include "launch/data/indexed_dataset_writer.h"
#include "launch/trainer.h"
#include "parallel/mpi_environment.h"

namespace witan::test {

constexpr double kWatchdogSeconds = 120.0;
constexpr std::int64_t kVocab = 23;
constexpr std::int32_t kEndOfDocument = 0;
constexpr std::int64_t kGlobalBatch = 12;  // divides over 1 to 4 ranks

inline const MpiEnvironment& mpi() {
  static const MpiEnvironment environment(nullptr, nullptr);
  return environment;
}

inline Communicator& world() {
  static const std::unique_ptr<Communicator> communicator = mpi().world(kWatchdogSeconds);
  return *communicator;
}

// A folder that all ranks see, removed at the end. Collective.
class SharedFolder {
 public:
  SharedFolder() {
    if (world().rank() == 0) {
      path_ = (std::filesystem::temp_directory_path() / "witan-trainer-XXXXXX").string();
      EXPECT_NE(::mkdtemp(path_.data()), nullptr) << path_;
    }
    world().broadcast_bytes(path_, 0);
  }
  ~SharedFolder() {
    world().barrier();
    std::error_code ignored;
    if (world().rank() == 0) std::filesystem::remove_all(path_, ignored);
  }
  SharedFolder(const SharedFolder&) = delete;
  SharedFolder& operator=(const SharedFolder&) = delete;

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Documents of random length with their end-of-document tokens.
inline void write_corpus(const std::string& prefix, std::int64_t documents, std::uint64_t seed) {
  const Random random(seed, "corpus");
  IndexedDatasetWriter writer(prefix, kVocab);
  std::uint64_t draw = 0;
  for (std::int64_t i = 0; i < documents; ++i) {
    std::vector<std::int32_t> tokens(random.below(draw++, 20) + 3);
    std::int32_t last = 1;
    for (std::int32_t& token : tokens) {  // each token mostly follows from the one before
      const bool follows = random.below(draw++, 4) != 0;
      const auto before = static_cast<std::uint64_t>(last);
      const std::uint64_t next = follows ? before * 7 + 3 : random.below(draw++, kVocab);
      last = static_cast<std::int32_t>(next % (kVocab - 1)) + 1;
      token = last;
    }
    tokens.push_back(kEndOfDocument);
    writer.append(tokens);
    writer.end_document();
  }
  writer.finish();
}

// Two datasets, so that there are two tags. Collective.
struct Corpus {
  Corpus() {
    if (world().rank() == 0) {
      write_corpus(folder / "a", 90, 1);
      write_corpus(folder / "b", 40, 2);
    }
    world().barrier();
  }
  SharedFolder folder;
};

inline const char* invariant_balance(bool exact) {
  return exact ? "balance { switch_aux { coefficient: 0.3 scope: SEQUENCE } }"
                 "balance { switch_aux { coefficient: 0.4 scope: GLOBAL_BATCH counts: EXACT } }"
                 "balance { z_loss { coefficient: 0.05 } }"
                 "balance { expert_bias { rate: 0.02 interval: 3 } }"
               : "balance { switch_aux { coefficient: 0.3 scope: SEQUENCE } }"
                 "balance { switch_aux { coefficient: 0.4 scope: GLOBAL_BATCH "
                 "counts: PREVIOUS_STEP } } balance { z_loss { coefficient: 0.05 } }"
                 "balance { expert_bias { rate: 0.02 interval: 3 } }";
}

// A field that makes two or more micro-batches of each rank's sequences.
inline std::string several_micro_batches() {
  const std::int64_t per_rank = kGlobalBatch / world().size();
  const std::int64_t micro_batch = per_rank % 2 == 0 ? per_rank / 2 : 1;
  return "train { micro_batch: " + std::to_string(micro_batch) + " } ";
}

// `change` is merged over a run with one dense and two MoE layers, document masks, shared experts.
inline configs::RunConfig run_config(const Corpus& corpus, const std::string& balance,
                                     const std::string& change = "") {
  configs::RunConfig run;
  const std::string experts = world().size() == 3 ? "6" : "8";
  const std::string text =
      "name: 'test' model { vocab_size: 23 d_model: 12 layers: 3 init_std: 0.3 tied_head: true"
      "  attention { heads: 2 kv_heads: 1 head_dim: 6 qk_norm: true } ffn { d_ff: 10 }"
      "  moe { experts: " +
      experts +
      " d_ff: 7 shared_d_ff: 5 pattern { first: 1 }"
      "  router { top_k { k: 2 } score: SIGMOID bias: true } " +
      balance + " } } data { train { name: 'a' path: '" + corpus.folder / "a" +
      "' } train { name: 'b' path: '" + corpus.folder / "b" +
      "' weight: 0.5 } seq_len: 9 reset_at_document: true mask_document_start: true }"
      " train { steps: 50 global_batch: 12 seed: 11 }"
      " optimizer { lr: 0.01 zero1: false clip_norm: 0.5 schedule { warmup_steps: 4 } } ";
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &run)) << text;
  configs::RunConfig changes;
  EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(change, &changes)) << change;
  run.MergeFrom(changes);
  return run;
}

// From the config to the trainer, with initial weights.
class Session {
 public:
  Session(const configs::RunConfig& run, const Mesh& mesh) : Session(run, mesh, runtime_of(run)) {}
  Session(const configs::RunConfig& run, const Mesh& mesh, const Runtime& runtime)
      : run_(run),
        stream_(run.data(), run.model().vocab_size(), run.train().seed(), tag_names(run.model())),
        engine_(run.model(), mesh, runtime, options_of(run, stream_)),
        trainer_(run, engine_, stream_, kEndOfDocument) {
    engine_.params().initialize(run.train().seed());
  }

  Trainer& trainer() { return trainer_; }
  Engine& engine() { return engine_; }
  const SampleStream& stream() const { return stream_; }
  const configs::RunConfig& run() const { return run_; }
  TensorView value(const std::string& name) { return engine_.params().value(name); }

  static Runtime runtime_of(const configs::RunConfig& run) {
    Runtime runtime;
    runtime.dtype = run.runtime().precision() == configs::RuntimeConfig::FLOAT64 ? DType::kFloat64
                                                                                 : DType::kFloat32;
    if (run.runtime().precision() == configs::RuntimeConfig::BF16) {
      runtime.ctx.products = Products::kBfloat16;
    }
    runtime.cuda_graphs = run.runtime().cuda_graphs();
    return runtime;
  }

 private:
  static Engine::Options options_of(const configs::RunConfig& run, const SampleStream& stream) {
    return {true, static_cast<std::int64_t>(stream.tags().size()),
            static_cast<Recompute>(run.train().recompute()), exchange_options(run)};
  }

  configs::RunConfig run_;
  SampleStream stream_;
  Engine engine_;
  Trainer trainer_;
};

// Sizes of expert parallelism that this world and these experts allow.
inline std::vector<int> expert_parallel_sizes(const configs::RunConfig& run) {
  std::vector<int> sizes;
  for (int ep = 1; ep <= world().size(); ++ep) {
    if (world().size() % ep == 0 && run.model().moe().experts() % ep == 0) sizes.push_back(ep);
  }
  return sizes;
}

inline Mesh mesh_of(int expert_parallel) { return {mpi(), expert_parallel, kWatchdogSeconds}; }

// This rank's part of a tensor that another run has in full (on one rank) or in the same part.
inline TensorView part_of(const ParamInfo& info, const TensorView& whole, const ParamStore& mine) {
  const bool same_part = whole.rows() == mine.layout().local_experts;
  if (info.role != ParamRole::kExpert || same_part) return whole;
  return whole.slice_rows(mine.layout().first_expert, mine.layout().local_experts);
}

// |found - expected| <= tolerance * |expected|, in norms.
inline void expect_norm_near(const std::string& name, const TensorView& found,
                             const TensorView& expected, double tolerance) {
  ASSERT_EQ(found.shape, expected.shape) << name;
  double difference = 0.0, norm = 0.0;
  dispatch_float(found.dtype, name.c_str(), [&](auto zero) {
    using T = decltype(zero);
    for (std::int64_t i = 0; i < found.size(); ++i) {
      const auto a = static_cast<double>(found.as<T>()[i]);
      const auto b = static_cast<double>(expected.as<T>()[i]);
      difference += (a - b) * (a - b);
      norm += b * b;
    }
  });
  EXPECT_LE(std::sqrt(difference), tolerance * std::sqrt(norm)) << name;  // false for NaN
}

inline void expect_gradients_near(Session& found, Session& whole, double tolerance) {
  const ParamTable& table = found.engine().table();
  for (int id = 0; id < table.size(); ++id) {
    if (!table[id].trained()) continue;
    expect_norm_near(table[id].name, found.engine().params().grad(id),
                     part_of(table[id], whole.engine().params().grad(id), found.engine().params()),
                     tolerance);
  }
}

inline void expect_same_values(Session& found, Session& whole) {
  const ParamTable& table = found.engine().table();
  for (int id = 0; id < table.size(); ++id) {
    const TensorView a = found.engine().params().value(id);
    const TensorView b =
        part_of(table[id], whole.engine().params().value(id), found.engine().params());
    ASSERT_EQ(a.shape, b.shape);
    EXPECT_EQ(std::memcmp(a.data, b.data, a.bytes()), 0) << table[id].name;
  }
}

inline void expect_near(const char* what, double found, double expected, double tolerance) {
  EXPECT_LE(std::abs(found - expected), tolerance * std::abs(expected))
      << what << ": expected " << expected << ", found " << found;
}

inline void expect_metrics_near(const StepMetrics& found, const StepMetrics& expected,
                                double tolerance) {
  expect_near("loss", found.loss, expected.loss, tolerance);
  expect_near("router loss", found.router_loss, expected.router_loss, tolerance);
  expect_near("multi-token prediction", found.mtp_loss, expected.mtp_loss, tolerance);
  ASSERT_EQ(found.mtp_losses.size(), expected.mtp_losses.size());
  for (std::size_t i = 0; i < found.mtp_losses.size(); ++i) {
    expect_near("loss of a depth", found.mtp_losses[i], expected.mtp_losses[i], tolerance);
  }
  ASSERT_EQ(found.layers.size(), expected.layers.size());
  for (std::size_t i = 0; i < found.layers.size(); ++i) {
    const LayerMetrics& a = found.layers[i];
    const LayerMetrics& b = expected.layers[i];
    EXPECT_EQ(a.counts, b.counts);
    EXPECT_EQ(a.tag_counts, b.tag_counts);
    for (std::size_t j = 0; j < a.losses.size(); ++j) {
      expect_near("balancing loss", a.losses[j], b.losses[j], tolerance);
    }
    expect_near("top weight", a.top_weight, b.top_weight, tolerance);
    expect_near("logit rms", a.logit_rms, b.logit_rms, tolerance);
    expect_near("lse", a.lse, b.lse, tolerance);
  }
}

}  // namespace witan::test
