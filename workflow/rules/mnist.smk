rule fetch_mnist:
    """The four MNIST files, from the first source that has them.

    Their SHA-256 fixes what they hold, so that nothing can outdate them: they stay when this rule
    runs again ("update"), and that alone reruns nothing ("ancient", below).
    """
    output:
        mnist=update(MNIST_FILES),
    log:
        f"{RESULTS}/logs/mnist/fetch.log",
    priority: 100  # everything below waits for it, and if it fails, the user knows at once
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        directory=lambda wildcards: MNIST,
        sources=config["mnist"]["sources"],
        local=config["mnist"]["local"],
        timeout=config["mnist"]["timeout"],
    script:
        "../scripts/fetch_mnist.py"


rule train_mnist:
    """One network, trained, with its accuracy on the test images."""
    input:
        mnist=ancient(MNIST_FILES),
        modules=modules("train_mnist"),
    output:
        checkpoint=f"{RESULTS}/mnist/{{architecture}}/seed{{seed}}.pt",
        summary=f"{RESULTS}/mnist/{{architecture}}/seed{{seed}}.json",
    log:
        f"{RESULTS}/logs/mnist/{{architecture}}/seed{{seed}}_train.log",
    benchmark:
        f"{RESULTS}/benchmarks/mnist/{{architecture}}/seed{{seed}}_train.tsv"
    priority: 50  # the longest chain of jobs starts here
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        directory=lambda wildcards: MNIST,
        seed=lambda wildcards: int(wildcards.seed),
        training_images=config["mnist"]["training_images"],
        training=lambda wildcards: {
            "epochs": config["mnist"]["epochs"][wildcards.architecture],
            **{
                name: config["mnist"][name]
                for name in ("batch_size", "learning_rate", "weight_decay")
            },
        },
    script:
        "../scripts/train_mnist.py"


rule bounds_mnist:
    """Test 4: all bounds of one network in both treatments, and a lower bound from Jacobians."""
    input:
        mnist=ancient(MNIST_FILES),
        checkpoint=f"{RESULTS}/mnist/{{architecture}}/seed{{seed}}.pt",
        modules=modules("bounds_mnist", BOUNDS),
    output:
        table=f"{RESULTS}/mnist/{{architecture}}/seed{{seed}}.csv",
    log:
        f"{RESULTS}/logs/mnist/{{architecture}}/seed{{seed}}_bounds.log",
    benchmark:
        f"{RESULTS}/benchmarks/mnist/{{architecture}}/seed{{seed}}_bounds.tsv"
    priority: 40
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        directory=lambda wildcards: MNIST,
        jacobians=config["mnist"]["jacobians"],
        options=config["mnist"]["options"],
        bounds=BOUNDS,
        norms=NORMS,
    script:
        "../scripts/bounds_mnist.py"
