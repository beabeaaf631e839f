"""Online reweighting: weights for the examples of each optimizer batch, computed while the model trains.

Reweighters are frozen components. `curate.training.reweighting` defines their inputs; `curate.reweighters.trainers`
adds one to a trainer of transformers or TRL, `example_losses` works in any loop:

    import torch
    import transformers
    from curate.reweighters import BatchOutputs, DynamicLoss, OptimizerBatch, example_losses

    shape = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(num_hidden_layers=2, **shape))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    reweighter = DynamicLoss(strategy="linupper")

    for step in range(5):
        input_ids = torch.randint(64, (8, 20))  # your batch
        labels = input_ids.clone()
        labels[:, :10] = -100  # prompts are not trained on
        losses, tokens = example_losses(model(input_ids=input_ids).logits, labels)
        batch, outputs = OptimizerBatch(step, tokens), BatchOutputs(losses.detach())
        weights = reweighter.weights(batch, outputs)
        loss = (weights * tokens * losses).sum() / tokens.sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

Several micro-batches or processes: gather the losses and tokens of the whole optimizer batch before the call.
"""

import lazy_loader

# Loaded on first use; __init__.pyi lists the names, one per line.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
