#include "launch/plan/memory_advice.h"

#include <iomanip>
#include <optional>
#include <sstream>
#include <vector>

#include "core/base/error.h"

namespace witan {
namespace {

std::string megabytes(std::int64_t bytes) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(1) << static_cast<double>(bytes) * 1e-6 << " MB";
  return std::move(text).str();
}

class Search {
 public:
  Search(const PlanSubject& subject, const PlanLayout& layout, double imbalance,
         std::int64_t budget)
      : subject_(subject), layout_(layout), imbalance_(imbalance), budget_(budget) {}

  // Changes that make it fit, each by itself if one does, else together.
  std::vector<std::string> run() {
    const std::optional<PlanLayout> recomputed = more_recompute(layout_);
    const std::optional<PlanLayout> smaller = smaller_batch(layout_);
    if (recomputed) found_.push_back(said(recompute_text(*recomputed), subject_, *recomputed));
    if (smaller) found_.push_back(said(batch_text(*smaller), subject_, *smaller));
    if (!found_.empty()) return found_;
    PlanLayout both = layout_;
    both.recompute = Recompute::kLayer;
    if (const auto fitting = smaller_batch(both)) {
      found_.push_back(
          said(recompute_text(*fitting) + " and " + batch_text(*fitting), subject_, *fitting));
      return found_;
    }
    shorter(both);
    return found_;
  }

  std::int64_t needed(const PlanSubject& subject, const PlanLayout& layout) const {
    return plan_memory(subject, layout, imbalance_).total();
  }

 private:
  static std::string recompute_text(const PlanLayout& layout) {
    return detail::concat("train.recompute: ", name_of(layout.recompute));
  }
  static std::string batch_text(const PlanLayout& layout) {
    return detail::concat("train.micro_batch: ", layout.micro_batch);
  }
  std::string said(const std::string& change, const PlanSubject& subject,
                   const PlanLayout& layout) const {
    return detail::concat(change, " (", megabytes(needed(subject, layout)), ")");
  }
  bool fits(const PlanSubject& subject, const PlanLayout& layout) const {
    return needed(subject, layout) <= budget_;
  }

  std::optional<PlanLayout> more_recompute(PlanLayout layout) const {
    for (const Recompute level : kRecomputeLevels) {
      if (level <= layout_.recompute) continue;
      layout.recompute = level;
      if (fits(subject_, layout)) return layout;
    }
    return std::nullopt;
  }

  std::optional<PlanLayout> smaller_batch(PlanLayout layout) const {
    const std::int64_t share = layout.micro_batch * layout.micro_batches;
    for (std::int64_t size = layout_.micro_batch - 1; size >= 1; --size) {
      if (share % size != 0) continue;
      layout.micro_batch = size;
      layout.micro_batches = share / size;
      if (fits(subject_, layout)) return layout;
    }
    return std::nullopt;
  }

  // Half as long, a quarter, ...
  void shorter(PlanLayout layout) {
    layout.micro_batches *= layout.micro_batch;
    layout.micro_batch = 1;
    configs::RunConfig run = subject_.run;
    const std::int64_t least = run.model().mtp().depth() + 1;
    for (std::int64_t length = subject_.seq_len() / 2; length >= least; length /= 2) {
      run.mutable_data()->set_seq_len(length);
      PlanSubject subject(run, subject_.activation_bytes);
      subject.cublas_workspace = subject_.cublas_workspace;
      if (!fits(subject, layout)) continue;
      found_.push_back(said(detail::concat(recompute_text(layout), ", ", batch_text(layout),
                                           " and data.seq_len: ", length),
                            subject, layout));
      return;
    }
  }

  const PlanSubject& subject_;
  const PlanLayout& layout_;
  double imbalance_;
  std::int64_t budget_;
  std::vector<std::string> found_;
};

}  // namespace

std::string memory_advice(const PlanSubject& subject, const PlanLayout& layout, double imbalance,
                          std::int64_t budget) {
  const MemoryPlan plan = plan_memory(subject, layout, imbalance);
  std::string text = detail::concat("a rank needs ", megabytes(plan.total()), " of the ",
                                    megabytes(budget), " that it has");
  // Where it should fit by the plan, libraries and other programs take what is missing.
  const bool nearly = plan.total() <= budget;
  Search search(subject, layout, imbalance, nearly ? plan.total() - 1 : budget);
  const std::vector<std::string> changes = search.run();
  for (std::size_t i = 0; i < changes.size(); ++i) {
    text += (i > 0 ? ", or " : nearly ? "; less would: " : "; what would fit: ") + changes[i];
  }
  if (!changes.empty()) return text;
  return text + detail::concat(
                    "; no train.recompute, train.micro_batch or data.seq_len makes it "
                    "fit, since weights, gradients and optimizer state take ",
                    megabytes(plan.weights + plan.gradients + plan.optimizer + plan.rounded),
                    " of it; more ranks, optimizer.zero1 or a smaller model would");
}

}  // namespace witan
