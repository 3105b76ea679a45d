#include "launch/train_run.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>

#include "core/base/error.h"
#include "core/base/profile.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/data/run_tokenizer.h"
#include "launch/data/sample_stream.h"
#include "launch/engine.h"
#include "launch/evaluator.h"
#include "launch/metrics/load_figures.h"
#include "launch/metrics/run_log.h"
#include "launch/process_clock.h"
#include "launch/profile/step_profiler.h"
#include "launch/run_config.h"
#include "launch/run_summary.h"
#include "launch/stop_signal.h"
#include "launch/trainer.h"
#include "parallel/mesh.h"

namespace witan {
namespace {

namespace fs = std::filesystem;
using configs::RunConfig;

Recompute recompute_of(const RunConfig& run) {
  return static_cast<Recompute>(static_cast<int>(run.train().recompute()));
}

void write_text(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (!out) throw_user_error("cannot write ", path);
}

// Buffers grow to a high-water mark, mostly in the first steps; each growth is worth a line.
void log_growth(const char* arena, int layer, const char* label, std::size_t bytes,
                std::size_t reserved) {
  spdlog::info("memory: {} + {} = {} ({}{})", arena, human_bytes(static_cast<std::int64_t>(bytes)),
               human_bytes(static_cast<std::int64_t>(reserved)),
               layer < 0 ? "" : "layer " + std::to_string(layer) + ", ", label);
}

// Everything of one run, in the order in which it starts.
class Run {
 public:
  Run(const configs::LoadedConfig& config, const TrainOptions& options, const MpiEnvironment& mpi)
      : config_(config),
        run_(config.run),
        options_(options),
        runtime_(start_runtime(run_.runtime(), mpi, run_.device())),
        mesh_(mpi, resolve_expert_parallel(run_, mpi.size()), run_.parallel().watchdog_seconds()),
        folder_(run_.train().has_output() ? run_.train().output() : "runs/" + run_.name()) {
    mesh_.use_device(runtime_.ctx, device_transport(run_), run_.parallel().watchdog_seconds());
    clock_.lap("mesh");
    open_data();
    engine_.emplace(run_.model(), mesh_, runtime_,
                    Engine::Options{true, static_cast<std::int64_t>(stream_->tags().size()),
                                    recompute_of(run_), exchange_options(run_)});
    trainer_.emplace(run_, *engine_, *stream_, end_of_document_);
    probe_.emplace(engine_->model().dims().all_layers());
    clock_.lap("model");
  }

  int execute() {
    prepare_folder();
    start_weights();
    clock_.lap("weights");
    prepare_profile();
    describe();
    make_log();
    install_stop_signals();
    if (leader()) Arena::set_growth_log(log_growth);
    loop();
    Arena::set_growth_log(nullptr);
    return finish();
  }

 private:
  bool leader() const { return mesh_.world_rank() == 0; }

  void open_data() {
    if (run_.data().train_size() == 0) {
      throw_user_error(config_.file,
                       ": data.train is missing; name a dataset: data { train { name: \"text\" "
                       "path: \"data/text\" } }");
    }
    tokenizer_ = tokenizer_of(run_.data());
    end_of_document_ = end_of_document_of(run_.data(), tokenizer_.get());
    check_tokenizer_of_datasets(run_.data(), tokenizer_.get());
    stream_.emplace(run_.data(), run_.model().vocab_size(), run_.train().seed(),
                    tag_names(run_.model()));
    clock_.lap("data");
  }

  // The run folder; a run that is already there is neither mixed with nor overwritten.
  void prepare_folder() {
    checkpoint_ = find_checkpoint();
    if (leader()) {
      std::error_code error;
      fs::create_directories(folder_, error);
      if (error) throw_user_error("train.output: cannot make ", folder_, ": ", error.message());
      if (!checkpoint_ && options_.resume.empty() && newest_checkpoint(folder_)) {
        throw_user_error(folder_,
                         " already holds a run; continue it with --resume auto, or set "
                         "another train.output");
      }
      write_text(folder_ + "/config.textproto", configs::print_effective(config_));
      write_text(folder_ + "/kernels.txt", runtime_.kernels + "\n");
    }
    mesh_.world().barrier();
  }

  // Rank 0 looks, so that all ranks resume from the same folder.
  std::optional<std::string> find_checkpoint() {
    std::string found;
    if (leader() && options_.resume == "auto") found = newest_checkpoint(folder_).value_or("");
    if (leader() && !options_.resume.empty() && options_.resume != "auto") found = options_.resume;
    mesh_.world().broadcast_bytes(found, 0);
    return found.empty() ? std::nullopt : std::optional(found);
  }

  void start_weights() {
    if (checkpoint_) {
      const TrainState state =
          load_checkpoint(*checkpoint_, run_, engine_->params(), trainer_->optimizer(), mesh_);
      check_tokenizer(state);
      trainer_->restore(state);
      const auto kernels = state.notes.find("kernels");
      if (leader()) {
        spdlog::info("resuming from {} at step {}", *checkpoint_, state.step);
        if (kernels != state.notes.end() && kernels->second != runtime_.kernels) {
          spdlog::warn(
              "the checkpoint was made with other kernels, so the numbers will differ in "
              "their last bits: {} then, {} now",
              kernels->second, runtime_.kernels);
        }
      }
    } else if (run_.train().has_init_from()) {
      load_weights(run_.train().init_from(), engine_->params(), mesh_);
      if (leader()) spdlog::info("weights from {}", run_.train().init_from());
    } else {
      engine_->params().initialize(run_.train().seed());
    }
    first_step_ = trainer_->steps_done();
  }

  std::string tokenizer_name() const { return tokenizer_ ? tokenizer_->name() : "none"; }

  // Ids that mean other text than before would train without an error.
  void check_tokenizer(const TrainState& state) const {
    const auto before = state.notes.find("tokenizer");
    if (before == state.notes.end() || before->second == tokenizer_name()) return;
    throw_user_error("data.tokenizer: ", *checkpoint_, " was trained with the tokenizer ",
                     before->second, ", this run has ", tokenizer_name());
  }

  void prepare_profile() {
    if (options_.profile.empty()) return;
    const StepRange range =
        resolve(parse_step_range(options_.profile), first_step_, run_.train().steps());
    profiler_.emplace(range, folder_, mesh_);
  }

  void describe() {
    if (!leader()) return;
    for (const std::string& warning : run_config_warnings(run_)) spdlog::warn("{}", warning);
    for (const std::string& warning : runtime_.warnings) spdlog::warn("{}", warning);
    const ParamTable& table = engine_->table();
    spdlog::info(
        "{}: {} parameters, {} active per token; {} ranks (EP {} x DP {}), {} threads each",
        run_.name(), table.total_parameters(), table.active_parameters(), mesh_.world_size(),
        mesh_.expert_parallel(), mesh_.replicas(), runtime_.threads);
    spdlog::info("kernels: {}", runtime_.kernels);
    if (mesh_.world_size() > 1 && !mesh_.device_transport().empty()) {
      spdlog::info("between GPUs: {}", mesh_.device_transport());
    }
    const std::int64_t step_tokens = run_.train().global_batch() * run_.data().seq_len();
    spdlog::info("data: {} training tokens; {} steps of {} tokens are {:.2f} epochs",
                 stream_->train_tokens(), run_.train().steps(), step_tokens,
                 static_cast<double>(run_.train().steps() * step_tokens) /
                     static_cast<double>(stream_->train_tokens()));
    std::string balance;
    for (const configs::BalancerConfig& b : run_.model().moe().balance()) {
      balance += (balance.empty() ? "" : "; ") + b.ShortDebugString();
    }
    if (run_.model().has_moe()) spdlog::info("balancing: {}", balance.empty() ? "none" : balance);
  }

  void make_log() {
    RunLog::Setup setup;
    setup.folder = folder_;
    setup.steps = run_.train().steps();
    setup.log_interval = run_.train().log_interval();
    setup.flops_per_token = training_flops_per_token(run_.model(), run_.data().seq_len());
    setup.peak_flops = run_.runtime().peak_tflops() * 1e12 * mesh_.world_size();
    setup.expert_parallel = mesh_.expert_parallel();
    for (const configs::BalancerConfig& config : run_.model().moe().balance()) {
      const std::string name = make_balancer(config)->name();
      std::string key = name;  // a second loss of its kind is name_2
      for (int i = 2; std::count(setup.balancers.begin(), setup.balancers.end(), key) > 0; ++i) {
        key = name + "_" + std::to_string(i);
      }
      setup.balancers.push_back(key);
    }
    setup.tags = stream_->tags();
    setup.tensorboard = run_.train().tensorboard();
    setup.config = configs::print_effective(config_);
    log_.emplace(setup, first_step_, leader());
    clock_.lap("log");
    if (leader()) spdlog::info("start-up: {}", clock_.report());
  }

  void loop() {
    const std::int64_t steps = run_.train().steps();
    std::int64_t skipped_in_a_row = 0;
    while (trainer_->steps_done() < steps && stopped_.empty()) {
      if (profiler_) profiler_->begin(trainer_->steps_done() + 1);
      const StepMetrics metrics = trainer_->step(wants_stop());
      log_->step(metrics);
      watch_balance(metrics);
      skipped_in_a_row = metrics.skipped ? skipped_in_a_row + 1 : 0;
      if (skipped_in_a_row > run_.train().skip_nonfinite()) fail_nonfinite(metrics);
      if (metrics.stop) stopped_ = "asked to stop";
      const std::int64_t done = trainer_->steps_done();
      if (due(run_.train().eval_interval(), done) && done < steps && stopped_.empty()) {
        log_->evaluation(done, run_evaluation(run_.train().eval_sequences()));
      }
      if (due(run_.checkpoint().interval(), done) && done < steps && stopped_.empty()) save();
      if (profiler_ && profiler_->end(done)) tell_profile();
    }
    if (profiler_ && profiler_->finish()) tell_profile();
  }

  void tell_profile() const {
    if (!leader()) return;
    const RankTrace& trace = profiler_->trace();
    spdlog::info(
        "profile of steps {} to {}: {}; tables and one trace of all ranks: witan profile {}",
        trace.first_step, trace.last_step, profile_folder(folder_), folder_);
    if (trace.lost_events > 0) {
      spdlog::warn("the profile had no room for {} events of rank 0", trace.lost_events);
    }
  }

  static bool due(std::int64_t interval, std::int64_t step) {
    return interval > 0 && step % interval == 0;
  }

  bool wants_stop() const {
    const double limit = run_.train().max_minutes();
    return stop_signal() != 0 || (limit > 0.0 && clock_.seconds() > limit * 60.0);
  }

  [[noreturn]] void fail_nonfinite(const StepMetrics& metrics) {
    log_->flush();
    throw Error(detail::concat("step ", metrics.step, ": ", metrics.nonfinite,
                               metrics.nonfinite == "loss" ? " is" : " has a gradient that is",
                               " not finite (loss ", metrics.loss, ", gradient norm ",
                               metrics.grad_norm,
                               "); lower optimizer.lr, or set "
                               "train.skip_nonfinite to skip such steps"));
  }

  // Counts over the last tenth of the steps.
  void watch_balance(const StepMetrics& metrics) {
    const std::int64_t steps = run_.train().steps();
    if (metrics.step <= steps - std::max<std::int64_t>(1, steps / 10)) return;
    if (load_.empty()) {
      load_ = metrics.layers;
    } else {
      for (std::size_t i = 0; i < load_.size(); ++i) {
        for (std::size_t e = 0; e < load_[i].counts.size(); ++e) {
          load_[i].counts[e] += metrics.layers[i].counts[e];
        }
        for (std::size_t j = 0; j < load_[i].tag_counts.size(); ++j) {
          load_[i].tag_counts[j] += metrics.layers[i].tag_counts[j];
        }
      }
    }
    for (const LayerMetrics& layer : metrics.layers) {
      worst_max_vio_ = std::max(worst_max_vio_, load_figures(layer.computing_counts()).max_vio);
    }
  }

  std::vector<EvalResult> run_evaluation(std::int64_t max_windows) {
    const ProfileScope profile("evaluation");
    const std::int64_t per_rank = run_.train().global_batch() / mesh_.world_size();
    const std::int64_t micro_batch =
        run_.train().has_micro_batch() ? run_.train().micro_batch() : per_rank;
    return evaluate(*engine_, *stream_, run_.data(), micro_batch, max_windows, tokenizer_.get(),
                    end_of_document_, &*probe_);
  }

  void save() {
    const ProfileScope profile("checkpoint");
    char name[32];
    std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(trainer_->steps_done()));
    const std::string folder = folder_ + "/checkpoints/" + name;
    TrainState state = trainer_->state();
    state.notes["kernels"] = runtime_.kernels;
    state.notes["tokenizer"] = tokenizer_name();
    if (tokenizer_ != nullptr) {
      for (const TokenizerFile& file : tokenizer_->files()) state.files[file.name] = file.content;
    }
    ShardedAdamW* optimizer =
        run_.checkpoint().optimizer_state() ? &trainer_->optimizer() : nullptr;
    // Whatever becomes of the datasets: the checkpoint knows its tokenizer.
    RunConfig run = run_;
    if (!run.data().has_tokenizer() && state.files.empty()) {
      run.mutable_data()->set_tokenizer(tokenizer_name());
    }
    save_checkpoint(folder, run, engine_->params(), optimizer, state, mesh_,
                    static_cast<int>(run_.checkpoint().keep_last()));
    last_checkpoint_ = folder;
    if (leader()) spdlog::info("checkpoint {}", folder);
  }

  int finish() {
    const bool moved = trainer_->steps_done() > first_step_;
    if (run_.checkpoint().at_end() && moved) save();
    std::vector<EvalResult> validation;
    if (stopped_.empty() && stream_->validation_sets() > 0) {
      validation = run_evaluation(0);
      log_->evaluation(trainer_->steps_done(), validation);
    }
    if (!leader()) return 0;
    const RunSummary summary = summarize(std::move(validation));
    print_summary(summary);
    const std::string json = summary_json(summary);
    write_text(folder_ + "/summary.json", json);
    if (!options_.json_file.empty()) write_text(options_.json_file, json);
    return 0;
  }

  RunSummary summarize(std::vector<EvalResult> validation) {
    RunSummary s;
    s.name = run_.name();
    s.step = trainer_->steps_done();
    s.steps = run_.train().steps();
    s.tokens = s.step * run_.train().global_batch() * run_.data().seq_len();
    s.train_loss = log_->recent_loss();
    s.tokens_per_second = log_->median_tokens_per_second();
    s.seconds = clock_.seconds();
    s.total_parameters = engine_->table().total_parameters();
    s.active_parameters = engine_->table().active_parameters();
    s.ranks = mesh_.world_size();
    s.expert_parallel = mesh_.expert_parallel();
    s.threads = runtime_.threads;
    s.kernels = runtime_.kernels;
    s.stopped = stopped_;
    s.checkpoint = last_checkpoint_.empty() ? checkpoint_.value_or("") : last_checkpoint_;
    s.validation = std::move(validation);
    s.load = load_;
    s.tags = stream_->tags();
    s.worst_step_max_vio = worst_max_vio_;
    s.memory = engine_->memory_parts();
    s.memory.push_back(
        {"optimizer", static_cast<std::int64_t>(trainer_->optimizer().state_bytes())});
    s.peak_memory = peak_memory();
    return s;
  }

  const configs::LoadedConfig& config_;
  const RunConfig& run_;
  TrainOptions options_;
  ProcessClock clock_;
  Runtime runtime_;
  Mesh mesh_;
  std::string folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::int32_t end_of_document_ = -1;
  std::optional<SampleStream> stream_;
  std::optional<Engine> engine_;
  std::optional<Trainer> trainer_;
  std::optional<RunLog> log_;
  std::optional<RoutingProbe> probe_;
  std::optional<StepProfiler> profiler_;

  std::optional<std::string> checkpoint_;  // resumed from
  std::string last_checkpoint_;            // written by this process
  std::int64_t first_step_ = 0;
  std::string stopped_;
  std::vector<LayerMetrics> load_;
  double worst_max_vio_ = 0.0;
};

}  // namespace

int train(const configs::LoadedConfig& config, const TrainOptions& options,
          const MpiEnvironment& mpi) {
  spdlog::set_pattern("[%H:%M:%S] [%l] %v");
  return Run(config, options, mpi).execute();
}

}  // namespace witan
